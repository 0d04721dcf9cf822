"""A made-up record of a decomposition, with numbers that can be told apart."""

from itertools import count

from uoe_model.checkpoint_json import ROUTES

SCOPES = {"both": ((1, 1), (1, 2), (2, 3), (2, 4), (2, 1)), "attention": ((1, 4), (2, 4))}
SCOPES["mlp"] = tuple((2, k) for k in range(1, 5))


def curve_record(quality="loss", *, chosen=(2, 1)):
    """2 attention and 4 MLP experts; every number once, errors from 0.01 up, and 0 with all experts."""
    number = count(1)
    curve = []
    for scope, pairs in SCOPES.items():
        for attention, mlp in pairs:
            everything = (attention, mlp) == (2, 4)
            for routes in ROUTES[:1] if everything else ROUTES:
                worse = 0 if everything else next(number) / 100
                row = {"scope": scope, "attention_top_k": attention, "mlp_top_k": mlp, "routes": routes}
                row |= {"hidden_error": worse, "cosine": 1 - worse, "loss": None, "agreement": None}
                if quality != "cosine":
                    row[quality] = 2 + worse if quality == "loss" else 1 - worse / 2
                curve.append(row)
    options = {"attention_experts": 2, "mlp_experts": 4, "attention_top_k": chosen[0], "mlp_top_k": chosen[1]}
    return {"options": options, "curve": curve, "held_out_units": 70, "summary": "cut from {tiny} at 5 %"}
