"""The switches of the authors' released model, for those who offer them without loading it."""

from uoe_model.reference.quirks import CLASSIFIER_QUIRKS, Quirks, TieRule

__all__ = ["CLASSIFIER_QUIRKS", "Quirks", "TieRule"]
