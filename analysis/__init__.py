"""Pure functions over a routing trace: trace in, documented DataFrame out; runs without torch and without a browser."""
