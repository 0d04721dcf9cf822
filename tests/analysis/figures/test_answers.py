import numpy as np
import pytest

from analysis.figures.candidates import build_candidates_figure, candidate_table
from analysis.figures.class_bars import build_class_bars_figure, class_table
from uoe_model.result import Candidate, ClassPrediction, TextPrediction


def text_prediction(*candidates: Candidate) -> TextPrediction:
    return TextPrediction(next_candidates=candidates, continuation="", mean_loss=1.0, bits_per_byte=1.0)


def test_classes_are_sorted_by_probability_then_id():
    prediction = ClassPrediction(labels=("cat", "dog", "ship"), probabilities=np.array([0.25, 0.5, 0.25]))
    table = class_table(prediction)
    assert table["label"].tolist() == ["dog", "cat", "ship"]
    assert table["class_id"].tolist() == [1, 0, 2]


def test_labels_and_bars_stand_beside_each_other_from_0_to_1():
    prediction = ClassPrediction(labels=("cat", "dog", "<b>ship"), probabilities=np.array([0.2, 0.7995, 0.0005]))
    figure = build_class_bars_figure(class_table(prediction))
    assert figure.layout.yaxis.ticktext == ("dog", "cat", "&lt;b&gt;ship")
    assert list(figure.data[0].x) == pytest.approx([0.7995, 0.2, 0.0005])
    assert list(figure.data[0].text) == ["80.0 %", "20.0 %", "< 0.1 %"]
    assert figure.layout.xaxis.range[0] == 0
    assert len(build_class_bars_figure(class_table(prediction), top=2).data[0].x) == 2


def test_candidates_keep_the_order_of_the_model_and_show_blanks():
    prediction = text_prediction(
        Candidate(token_id=7, text=" the", probability=0.5),
        Candidate(token_id=3, text="\n", probability=0.25),
        Candidate(token_id=9, text="$", probability=0.1),
    )
    table = candidate_table(prediction)
    figure = build_candidates_figure(table)
    assert table["token_id"].tolist() == [7, 3, 9]
    assert figure.layout.yaxis.ticktext == ("·the", "⏎", "&#36;")
    assert figure.data[0].customdata[0][1] == "token id 7"


def test_no_answers_say_so():
    assert "no candidates" in build_candidates_figure(candidate_table(text_prediction())).layout.annotations[0].text
    empty = class_table(ClassPrediction(labels=("a",), probabilities=np.array([1.0]))).head(0)
    assert "no classes" in build_class_bars_figure(empty).layout.annotations[0].text
