"""Recorded runs that come with the page, so that it shows one before a model is loaded."""
