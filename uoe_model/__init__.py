"""A Union-of-Experts transformer, the routers of other models, and what they can say about themselves."""
