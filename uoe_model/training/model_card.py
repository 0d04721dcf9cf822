"""The model card: numbers of metrics.json as Markdown, with the words that say what they do and do not mean."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from uoe_model.training.card_texts import DATA, INTENDED, PROTOCOL, ROUTING_VALUE, TWINS

TWIN_RESULTS: Final = "twins.json"

_IMAGE_FIELDS: Final = ("image_size", "grid_size", "stem_channels")
_TEXT_FIELDS: Final = ("max_position_embeddings", "rope_theta", "vocab_size", "tie_word_embeddings")

_REPLACEMENTS: Final[Mapping[str, str]] = {
    "balanced_random": "(a) balanced random",
    "permuted": "(b) own routes, permuted within the example",
    "untrained_router": "(c) untrained router",
    "lookup": "(d) lookup by token id or grid cell",
}


def render_card(metrics: Mapping[str, Any], twins: Mapping[str, Any] | None) -> str:
    """README.md of a checkpoint folder.

    Args:
        metrics: what `evaluation.measure` returned.
        twins: what `twins.compare` returned, if twins were trained.
    """
    kind = metrics["kind"]
    title = "UoE image classifier, CIFAR-10" if kind == "image" else "UoE causal language model, eight domains"
    sections = [
        _front_matter(metrics),
        f"# {title}",
        INTENDED[kind],
        "## Architecture\n\n" + _architecture(metrics),
        "## Data and licences\n\n" + DATA[kind],
        "## Training\n\n" + _training(metrics),
        "## Results\n\n" + PROTOCOL[kind] + "\n\n" + render_tables(metrics),
        "## Does the routing matter?\n\n" + ROUTING_VALUE + "\n\n" + render_routing_value(metrics),
        "## Does learning the routes help?\n\n" + TWINS + "\n\n" + render_twins(twins),
    ]
    return "\n\n".join(sections) + "\n"


def render_tables(metrics: Mapping[str, Any]) -> str:
    """Quality, load and drops per site, cost."""
    quality = _image_quality(metrics) if metrics["kind"] == "image" else _text_quality(metrics)
    return "\n\n".join([quality, _drops(metrics), _sites(metrics), _cost(metrics)])


def render_routing_value(metrics: Mapping[str, Any]) -> str:
    """The dependence table, with and without capacity."""
    parts: list[str] = []
    for capacity, words in (("as trained", "With the trained capacity"), ("none", "Without any capacity limit")):
        rows = [row for row in metrics["routing_value"] if row["capacity"] == capacity]
        cells = [
            [
                label,
                *(
                    f"{row['loss_change']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
                    for block in ("attention", "mlp", "both")
                    for row in rows
                    if row["replacement"] == replacement and row["block"] == block
                ),
            ]
            for replacement, label in _REPLACEMENTS.items()
        ]
        loss = metrics["routing_value_loss"][capacity]
        number = rows[0]["examples"] if rows else 0
        unit = "images" if metrics["kind"] == "image" else "documents"
        parts.append(f"{words} (learned routes: {loss:.4f} nats; {number:,} {unit}):")
        parts.append(_table(["routes replaced by", "attention", "mlp", "both"], cells))
    return "\n\n".join(parts)


def render_twins(twins: Mapping[str, Any] | None) -> str:
    """Learned minus frozen, and minus dense if there is such a twin, per seed."""
    if twins is None:
        return "Not measured for this checkpoint."
    kinds = [name for name in ("frozen", "dense") if all(name in row for row in twins["seeds"])]
    prefixes = {"frozen": "", "dense": "dense_"}
    rows = []
    for row in twins["seeds"]:
        cells = [str(row["seed"]), f"{row['learned']:.4f}"]
        for name in kinds:
            change, low, high = (row[f"{prefixes[name]}{part}"] for part in ("difference", "low", "high"))
            cells += [f"{row[name]:.4f}", f"{change:+.4f} [{low:+.4f}, {high:+.4f}]"]
        rows.append(cells)
    head = ["seed", "learned routers"]
    for name in kinds:
        head += [{"frozen": "frozen routers", "dense": "dense blocks"}[name], f"learned minus {name}"]
    means = [f"minus {name} {twins[f'{prefixes[name]}mean']:+.4f}" for name in kinds]
    return (
        f"Test loss in nats on {twins['dataset']} after {twins['steps']:,} steps each:\n\n{_table(head, rows)}\n\n"
        f"Mean over seeds: learned {', '.join(means)}."
    )


def stored_twins(folder: Path) -> dict[str, Any] | None:
    """The comparison of twins that a checkpoint folder holds: other weights, so it is stored, not measured again."""
    stored = folder / TWIN_RESULTS
    twins: dict[str, Any] | None = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else None
    return twins


def write_card(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write README.md, metrics.json and routing_reference.json into a checkpoint folder."""
    (folder / "README.md").write_text(render_card(metrics, stored_twins(folder)), encoding="utf-8")
    for name, value in (("metrics.json", metrics), ("routing_reference.json", metrics["reference"])):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _front_matter(metrics: Mapping[str, Any]) -> str:
    quality = metrics["quality"]
    if metrics["kind"] == "image":
        task, tag, dataset = "image-classification", "Image Classification", "CIFAR-10"
        results = [("accuracy", quality["accuracy"]), ("loss", quality["loss"])]
    else:
        task, tag, dataset = "text-generation", "Text Generation", "eight-domain text"
        results = [("bits_per_byte", quality["bits_per_byte"]), ("perplexity", quality["perplexity"])]
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: transformers",
        f"pipeline_tag: {task}",
        "tags: [mixture-of-experts, union-of-experts, uoe]",
        *(["language: [en, de, fr, es, it]"] if metrics["kind"] == "text" else ["datasets: [cifar10]"]),
        "model-index:",
        f"- name: {metrics['model']}",
        "  results:",
        f"  - task: {{type: {task}, name: {tag}}}",
        f"    dataset: {{type: {dataset.lower().replace(' ', '-')}, name: {dataset}, split: test}}",
        "    metrics:",
        *(f"    - {{type: {name}, value: {value:.4f}}}" for name, value in results),
        "---",
    ]
    return "\n".join(lines)


def render_parameters(metrics: Mapping[str, Any]) -> str:
    """Numbers of parameters, and what the weights file is."""
    rows = [[f"parameters, {name}", f"{number:,}"] for name, number in metrics["parameters"].items()]
    weights = metrics["weights"]
    stored = f"{weights['file_bytes']:,} bytes, {', '.join(weights['stored_as'])}, SHA-256 `{weights['sha256']}`"
    return _table(["", "value"], [*rows, ["weights file", stored]])


def _architecture(metrics: Mapping[str, Any]) -> str:
    config = metrics["config"]
    names = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"]
    names += ["position_embedding", *(_IMAGE_FIELDS if metrics["kind"] == "image" else _TEXT_FIELDS)]
    rows = [[name, str(config[name])] for name in names if name in config]
    rows += [[f"{block} router", _pairs(config[f"{block}_router"])] for block in ("attention", "mlp")]
    return _table(["", "value"], rows) + "\n\n" + render_parameters(metrics)


def _training(metrics: Mapping[str, Any]) -> str:
    run, settings = metrics["training_run"], metrics["training_config"]
    rows = [["steps", f"{run['steps']:,}"], ["wall time", f"{run['seconds'] / 60:,.1f} minutes"]] if run else []
    rows += [[name, str(run[name])] for name in ("processor", "device", "threads", "torch", "note") if name in run]
    rows += [[name, _pairs(value)] for name, value in settings.items() if name not in ("model", "steps")]
    losses = ("router_aux_loss_coef", "router_z_loss_coef", "balance_scope", "router_init_std", "initializer_range")
    rows += [[name, str(metrics["config"][name])] for name in losses if name in metrics["config"]]
    return _table(["", "value"], rows) if rows else "Unknown."


def _image_quality(metrics: Mapping[str, Any]) -> str:
    quality = metrics["quality"]
    labels = quality["labels"]
    classes = [
        [label, f"{recall:.1%}", f"{precision:.1%}"]
        for label, recall, precision in zip(labels, quality["recall"], quality["precision"], strict=True)
    ]
    confusion = [
        [f"**{label}**", *(f"{count:,}" for count in row)]
        for label, row in zip(labels, quality["confusion"], strict=True)
    ]
    return "\n\n".join(
        [
            f"On {quality['dataset']}: accuracy **{quality['accuracy']:.2%}** (95% interval over images "
            f"{quality['accuracy_low']:.2%} to {quality['accuracy_high']:.2%}), loss {quality['loss']:.4f} nats.",
            _table(["class", "recall", "precision"], classes),
            "Confusion matrix (rows: true class, columns: predicted):",
            _table(["", *labels], confusion),
        ]
    )


def _text_quality(metrics: Mapping[str, Any]) -> str:
    quality = metrics["quality"]
    rows = [
        [
            row["domain"],
            *(f"{row[name]:,}" for name in ("documents", "windows", "tokens", "bytes")),
            f"{row['bits_per_byte']:.4f}",
            f"{row['perplexity']:.2f}",
        ]
        for row in quality["domains"]
    ]
    macro = ["**macro**", "", "", "", "", f"**{quality['bits_per_byte']:.4f}**", f"**{quality['perplexity']:.2f}**"]
    header = ["domain", "documents", "windows", "tokens", "bytes", "bits per byte", "perplexity per token"]
    return _table(header, [*rows, macro])


def _drops(metrics: Mapping[str, Any]) -> str:
    cost, free = metrics["cost_of_drops"], metrics["without_capacity"]
    name = "loss" if metrics["kind"] == "image" else "bits_per_byte"
    words = "nats per image" if metrics["kind"] == "image" else "nats per token, all windows pooled"
    return (
        "Cost of drops, loss with the trained capacity minus loss without any, same weights: "
        f"{cost['loss_change']:+.4f} [{cost['low']:+.4f}, {cost['high']:+.4f}] {words} "
        f"({name.replace('_', ' ')} {free[name]:.4f} without)."
    )


def _sites(metrics: Mapping[str, Any]) -> str:
    rows = [
        [
            site["site"],
            f"{site['dropped_assignment_share']:.2%}",
            f"{site['dropped_unit_share']:.2%}",
            f"{site['load_cv']:.3f}",
            f"{site['within_example_load_cv']:.3f}",
            f"{site['entropy']:.3f} ({site['entropy_share']:.0%} of ln E)",
            " ".join(f"{share:.3f}" for share in site["load_share"]),
        ]
        for site in metrics["sites"]
    ]
    header = ["site", "dropped assignments", "dropped units", "load CV", "load CV within an example"]
    return _table([*header, "router entropy (nats)", "load share by expert"], rows)


def _cost(metrics: Mapping[str, Any]) -> str:
    rows = [
        [row["part"], *(f"{row[name]:,.0f}" for name in ("dense", "requested", "kept"))]
        for row in metrics["multiply_adds_per_unit"]
    ]
    table = _table(["part", "dense (all experts)", "k requested experts", "kept on the test set"], rows)
    return f"Multiply-adds per unit at full length, by formula (`uoe_model/training/cost.py`):\n\n{table}"


def _pairs(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(header), ["---"] + ["---:"] * (len(header) - 1), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
