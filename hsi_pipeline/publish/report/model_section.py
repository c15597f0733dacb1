"""The model that made a map: how it was trained, and whether its confidence can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from hsi_pipeline.figures import as_svg, reliability_figure, training_figure
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.publish.report.content import Report
from hsi_pipeline.publish.report.elements import element, inline_svg
from hsi_pipeline.publish.report.numbers import DASH, percent

_SCORES = {
    "validation_overall_accuracy": "Overall accuracy",
    "validation_average_accuracy": "Average accuracy of the classes",
    "validation_mean_f1": "Mean F1",
    "validation_mean_iou": "Mean IoU",
    "validation_kappa": "Kappa",
}
_SPLITS = {
    "spatial": "by place, whole polygons or blocks at a time",
    "column": "by a column of the label file",
}


def model_section(report: Report) -> ET.Element:
    """Return the section on the model."""
    section = element("section", element("h2", "Model"), id="model")
    card = report.card
    if card is None:
        section.append(
            element("p", "No model was given, so nothing is said about training and calibration: ",
                    element("code", "report --model MODEL"), " adds it.")
        )  # fmt: skip
        return section
    section.append(element("p", _told(card)))
    section.append(
        element("div", _calibration(card), _comparison(card), _history(card), _facts(card),
                class_="columns")
    )  # fmt: skip
    return section


def _told(card: ModelCard) -> str:
    scenes = ", ".join(card.scenes)
    text = f"{card.architecture}, {card.bands} bands, trained on {scenes or 'an unnamed scene'}"
    pixels = card.training.get("train_pixels")
    return f"{text} with {pixels:,} labelled pixels." if pixels else f"{text}."


def _calibration(card: ModelCard) -> ET.Element:
    made = element("div", element("h3", "Can the confidence be believed?"), class_="card")
    found = card.calibration
    bins = found.get("bins") or {}
    if not bins:
        made.append(element("p", "The model was not calibrated, so its confidence may be too high "
                            "or too low throughout.", class_="quiet"))  # fmt: skip
        return made
    figure = as_svg(reliability_figure(bins["lower"], bins["before"], bins["after"]), "reliability")
    label = "Reliability diagram: share of right pixels over confidence, before and after"
    made.append(element("figure", inline_svg(figure, label),
                        element("figcaption", _calibration_text(found))))  # fmt: skip
    return made


def _calibration_text(found: Mapping[str, Any]) -> str:
    before, after = percent(found.get("ece_before")), percent(found.get("ece_after"))
    how = ", each part judged by the others" if found.get("cross_validated") else ""
    pixels = f"{found.get('pixels', 0):,} validation pixels{how}"
    temperature = found.get("temperature")
    if temperature == 1:
        told = f"Expected calibration error {before} on {pixels}; no temperature makes it smaller."
    else:
        scaling = f"{found.get('method', 'temperature')} scaling"
        scaling += "" if temperature is None else f" (by {temperature:.3g})"
        told = (
            f"Expected calibration error {before} before and {after} after {scaling}, on {pixels}."
        )
    return (
        f"{told} On the dashed line, of pixels with a confidence of 80% four in five are right. "
        "Hollow: fewer than ten pixels."
    )


def _history(card: ModelCard) -> ET.Element:
    made = element("div", element("h3", "Training"), class_="card")
    history = card.training.get("history") or ()
    if not history:
        made.append(element("p", "The model card has no record of the epochs.", class_="quiet"))
        return made
    kept = next((one["epoch"] for one in history if one.get("kept")), None)
    label = "Loss and validation scores over the epochs"
    chosen = card.training.get("epoch_chosen_by")
    caption = f"{len(history)} epochs" + (f", epoch {kept} was kept" if kept else "")
    made.append(
        element("figure", inline_svg(as_svg(training_figure(history), "training"), label),
                element("figcaption", caption, f"; chosen by {chosen}." if chosen else "."))
    )  # fmt: skip
    return made


def _comparison(card: ModelCard) -> ET.Element:
    made = element("div", element("h3", "Beside simpler models"), class_="card")
    baselines = card.training.get("baselines") or {}
    if not baselines:
        made.append(element("p", "The model was not compared with others.", class_="quiet"))
        return made
    own = card.training.get("own_score")
    scores = {f"{card.architecture} (this model)": own} if own is not None else {}
    scores |= {name.replace("_", " "): value for name, value in baselines.items()}
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", element("span", class_="bar", style=f"width:{100 * value:.1f}%"),
                    class_="meter", aria_hidden="true"),
            element("td", f"{value:.3f}"),
        )
        for name, value in ranked
    ]  # fmt: skip
    made.append(
        element("table",
                element("caption", "Mean of overall accuracy and mean F1 on the same validation "
                        "pixels; 1 is perfect"),
                element("tbody", rows))
    )  # fmt: skip
    return made


def _facts(card: ModelCard) -> ET.Element:
    training = card.training
    pairs = [
        ("Split", _SPLITS.get(str(training.get("split")), training.get("split"))),
        ("Guard between the parts", _counted(training.get("guard_px"), "pixels")),
        ("Training pixels", _counted(training.get("train_pixels"))),
        ("Validation pixels", _counted(training.get("validation_pixels"))),
        ("Refitted on all labels", _yes(training.get("learnt_from_all_labels"))),
        ("Seed", card.seed),
        ("Pixels around that count", card.halo),
    ]
    pairs += [
        (f"{name}, validation", percent(card.scores[key]) if "kappa" not in key
         else f"{card.scores[key]:.3f}")
        for key, name in _SCORES.items()
        if card.scores.get(key) is not None
    ]  # fmt: skip
    rows = [
        element("tr", element("th", name, scope="row"), element("td", str(value)))
        for name, value in pairs
        if value is not None
    ]
    note = element("p", "Validation scores chose the epoch and come from the same labels as the "
                   "training: they are no assessment of the map.", class_="quiet")  # fmt: skip
    return element(
        "div",
        element("h3", "How it was trained"),
        element("table", element("tbody", rows), class_="plain"),
        note if card.scores else None,
        class_="card",
    )


def _counted(value: Any, unit: str = "") -> str | None:
    return None if value is None else f"{value:,} {unit}".strip()


def _yes(value: Any) -> str | None:
    return None if value is None else ("yes" if value else "no")


def validation_accuracy(card: ModelCard | None) -> str:
    """Return the overall accuracy on the validation pixels, as text."""
    found = None if card is None else card.scores.get("validation_overall_accuracy")
    return DASH if found is None else percent(found)
