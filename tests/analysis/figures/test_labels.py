from analysis.figures.labels import axis_title, expert_label, plain, site_label, term_title, visible


def test_ids_are_zero_based():
    assert site_label(0, "attention") == "L0 attention"
    assert site_label(3, "mlp") == "L3 MLP"
    assert expert_label(0) == "E0"


def test_titles_come_from_the_glossary_with_their_unit():
    assert term_title("relative_load") == "Relative load"
    assert axis_title("loss") == "Loss (nats)"
    assert axis_title("probability") == "Probability"


def test_what_cannot_be_seen_is_made_visible():
    assert visible("  the") == "··the"
    assert visible("a b") == "a b"
    assert visible("\n\t\r\x00\x1b") == "⏎⇥␍␀␛"
    assert visible("") == "∅"
    assert visible("   ") == "···"


def test_text_of_the_input_is_never_markup_or_a_formula():
    assert plain("<b>x</b> &amp;") == "&lt;b&gt;x&lt;/b&gt; &amp;amp;"
    assert "$" not in plain("$x$")
