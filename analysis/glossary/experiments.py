"""Terms of experiments: dense models with fewer experts, and one small model routed in different ways."""

from typing import Final

from analysis.glossary.term import Term

EXPERIMENTS: Final[dict[str, Term]] = {
    # What fewer experts cost a model that was cut from a dense one.
    "hidden_error": Term(
        name="error of hidden states",
        sentence="How far the final hidden states with fewer experts are from those of the dense model, which all "
        "experts together compute; 0 is equal.",
        formula="sqrt(sum of |h_k - h|^2 / sum of |h|^2) over held-out units",
        unit="share",
    ),
    "cosine": Term(
        name="cosine with the dense model",
        sentence="How alike the pooled vector of an example is with fewer experts and with all; 1 is the same "
        "direction.",
        formula="mean over held-out examples of v_k . v / (|v_k| |v|)",
    ),
    "agreement": Term(
        name="agreement with the dense model",
        sentence="Which part of the examples keeps its class with fewer experts.",
        formula="held-out examples of equal class / held-out examples",
        unit="share",
    ),
    "expert_share": Term(
        name="share of experts",
        sentence="Which part of a block's experts each unit is given to; the mean of attention and MLP where both "
        "change.",
        formula="k / E",
        unit="share",
    ),
    "routes": Term(
        name="ways to choose fewer experts",
        sentence="By the calibrated routers, which predict how long every expert's output is; at random; or by the "
        "true lengths, which only the experts themselves know.",
        formula="top k of: ridge regression on the router's input; noise; |output_e|",
    ),
    # One small model, routed in different ways.
    "runs": Term(
        name="finished runs",
        sentence="How many trainings, each with a seed of its own, a number is taken over.",
        unit="runs",
    ),
    "test_loss": Term(
        name="test loss",
        sentence="How surprised a trained model is by the answers of data it has not seen; lower is better.",
        formula="mean of -ln p(class of the image) or -ln p(next token)",
        unit="nats",
    ),
    "test_loss_difference": Term(
        name="difference of test losses",
        sentence="Test loss of a model minus that of its twin, trained from one seed on the same batches. With frozen "
        "routers as the twin, below zero means that learning the routes helped.",
        formula="test loss - test loss of the twin",
        unit="nats",
    ),
    "accuracy": Term(
        name="accuracy",
        sentence="Which part of the images got its right class.",
        unit="share",
    ),
    "multiply_adds": Term(
        name="multiply-adds",
        sentence="Work of a forward pass per unit: matrix products and convolutions, no norms, softmax or biases.",
        unit="multiply-adds",
    ),
    "parameters": Term(
        name="parameters",
        sentence="Trained numbers of a model, routers included; active are those that the requests of one unit use.",
    ),
    "training_seconds": Term(
        name="training time",
        sentence="Wall time of a training; it says little where other programs shared the machine.",
        unit="seconds",
    ),
}
