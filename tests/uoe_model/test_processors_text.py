import copy
import functools
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from tests.dense_checkpoints import sentence_pieces
from uoe_model.errors import CheckpointError, ConfigError, InputError
from uoe_model.processors.text import (
    END_OF_TEXT,
    PAD,
    UNKNOWN_PIECE,
    build_tokenizer,
    check_text,
    context_windows,
    decode_text,
    encode,
    frame_of,
    is_lossless,
    load_tokenizer,
    token_texts,
    tokenizer_digest,
)

# Any text that UTF-8 can write: everything but halves of surrogate pairs.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
TOKEN_TEXT = st.lists(st.sampled_from([END_OF_TEXT, PAD, " ", "the", "<|", "|>", "漢", "\n"]), max_size=8).map("".join)


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    texts = ["The quick brown fox, 1234 times.\n", "def naïve(x):\n    return x  # 漢字 漢字\n", "привет мир 🙂🙂"] * 5
    return build_tokenizer(texts, vocab_size=400)


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "notes.txt is empty: give at least one character."),
        (b"\xef\xbb\xbf", "notes.txt is empty: give at least one character."),
        (
            b"a" * 10_485_760,
            "notes.txt has 10,485,760 bytes; at most 800,000 are run at once: shorten it or cut it into parts.",
        ),
        (
            b"a\0b",
            "notes.txt holds a NUL byte at position 1, which no plain text has: save it as UTF-8 text and try again.",
        ),
        (
            b"caf\xe9",
            "notes.txt is not UTF-8 text (byte 0xE9 at position 3): save it as UTF-8 and try again.",
        ),
        (
            b"\xef\xbb\xbfcaf\xe9",
            "notes.txt is not UTF-8 text (byte 0xE9 at position 6): save it as UTF-8 and try again.",
        ),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            "notes.txt is not UTF-8 text (byte 0x89 at position 0); it looks like a PNG picture: "
            "save it as UTF-8 and try again.",
        ),
        (
            "hello".encode("utf-16"),
            "notes.txt is not UTF-8 text (byte 0xFF at position 0); it looks like text in UTF-16: "
            "save it as UTF-8 and try again.",
        ),
        (
            "hello".encode("utf-16-le"),
            "notes.txt holds a NUL byte at position 1, which no plain text has; it looks like text in UTF-16 or binary "
            "data: save it as UTF-8 text and try again.",
        ),
    ],
    ids=["empty", "only a byte order mark", "10 MB", "NUL", "Latin-1", "Latin-1 after a mark", "PNG", "UTF-16", "LE"],
)
def test_a_bad_file_gets_one_clear_sentence(data, sentence):
    with pytest.raises(InputError) as caught:
        decode_text(data, name="notes.txt")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The text is empty: give at least one character."),
        (
            "a" * 200_001,
            "The text has 200,001 characters; at most 200,000 are run at once: shorten it or cut it into parts.",
        ),
        ("ab\0", "The text holds a NUL character at position 2: remove it and try again."),
        (
            "a\ud83d",
            "The text holds half of a surrogate pair (U+D83D at position 1), which is no character: "
            "remove it and try again.",
        ),
    ],
    ids=["empty", "too long", "NUL", "surrogate"],
)
def test_a_bad_text_gets_one_clear_sentence(text, sentence):
    with pytest.raises(InputError) as caught:
        check_text(text)
    assert str(caught.value) == sentence


def test_a_file_that_is_too_long_is_refused_before_it_is_decoded():
    data = b"\xff" * 10_485_760
    tracemalloc.start()
    with pytest.raises(InputError, match="at most 100 are run"):
        decode_text(data, max_bytes=100)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["a\nb.txt", "x" * 500, "\x1b[31mred.txt", "\u202etxt.exe"])
def test_a_hostile_file_name_stays_one_short_printable_line(name):
    with pytest.raises(InputError) as caught:
        decode_text(b"", name=name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text", [" ", "\n", "\x01\x7f\x85", "a\r\nb\rc\n", "e\u0301", "\ufeff x", "\U0010ffff", "\u202e"]
)
def test_odd_but_valid_text_passes_unchanged(text):
    assert decode_text(text.encode("utf-8")) == text.removeprefix("\ufeff")
    assert check_text(text) == text


# Round trip ----------------------------------------------------------------------------------------------------------


@given(ANY_TEXT | TOKEN_TEXT)
@example("")
@example("".join(map(chr, range(0x180))))
@example("👩‍👩‍👧‍👦 e\u0301 \u202e עברית \ufffd\ufeff\U0010ffff\r\n\t")
@example("<|endoftext|><|pad|>")
def test_any_text_comes_back_exactly(text):
    encoded = encode(tokenizer(), text)
    assert tokenizer().decode(encoded.token_ids.tolist()) == text
    assert tokenizer().decode(encoded.token_ids.tolist(), skip_special_tokens=True) == text


@given(ANY_TEXT | TOKEN_TEXT)
@example("漢字🙂 漢\u0301")
def test_spans_locate_every_token_in_the_text(text):
    encoded = encode(tokenizer(), text)
    starts, ends, groups = (column.tolist() for column in (encoded.char_start, encoded.char_end, encoded.group))

    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert groups == sorted(groups)
    assert sorted(set(groups)) == list(range(len(set(groups))))

    end = 0
    for group in range(len(set(groups))):
        tokens = [token for token, its_group in enumerate(groups) if its_group == group]
        span = text[min(starts[token] for token in tokens) : max(ends[token] for token in tokens)]
        assert min(starts[token] for token in tokens) == end
        assert tokenizer().decode(encoded.token_ids[tokens].tolist()) == span
        end = max(ends[token] for token in tokens)
    assert end == len(text)

    for piece, start, stop, is_partial in zip(encoded.pieces, starts, ends, encoded.is_partial.tolist(), strict=True):
        assert stop > start
        assert is_partial or piece == text[start:stop]
        assert not is_partial or "\N{REPLACEMENT CHARACTER}" in piece


@given(ANY_TEXT)
def test_spans_agree_with_the_tokenizers_library(text):
    encoded = encode(tokenizer(), text)
    theirs = tokenizer().backend_tokenizer.encode(text, add_special_tokens=False)
    assert theirs.ids == encoded.token_ids.tolist()
    assert theirs.offsets == list(zip(encoded.char_start.tolist(), encoded.char_end.tolist(), strict=True))


def test_the_bytes_of_one_character_make_one_group():
    encoded = encode(tokenizer(), "a€b")  # the euro sign is not in the texts: three tokens of one byte each
    assert encoded.group.tolist() == [0, 1, 1, 1, 2]
    assert encoded.is_partial.tolist() == [False, True, True, True, False]
    assert encoded.pieces == ("a", "�", "�", "�", "b")
    assert encoded.char_start.tolist() == [0, 1, 1, 1, 2]
    assert encoded.char_end.tolist() == [1, 2, 2, 2, 3]
    assert token_texts(tokenizer(), encoded.token_ids.tolist()) == encoded.pieces


def test_a_replacement_mark_the_visitor_typed_is_not_partial():
    encoded = encode(build_tokenizer(["\ufffd" * 9] * 9, vocab_size=270), "\ufffd")
    assert encoded.pieces == ("\ufffd",)
    assert not encoded.is_partial.any()


def test_columns_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        encode(tokenizer(), "abc").token_ids[0] = 1


# Special tokens ------------------------------------------------------------------------------------------------------


def test_names_of_special_tokens_in_a_text_are_plain_text():
    special = {tokenizer().eos_token_id, tokenizer().pad_token_id}
    for text in (END_OF_TEXT, f"a{PAD}b", f"{END_OF_TEXT}{PAD}" * 3):
        assert special.isdisjoint(encode(tokenizer(), text).token_ids.tolist())
        assert special.isdisjoint(tokenizer()(text)["input_ids"][1:])
        assert special.isdisjoint(tokenizer()(text, add_special_tokens=False)["input_ids"])


def test_special_tokens_get_in_by_id_and_show_their_name():
    assert (tokenizer().bos_token_id, tokenizer().eos_token_id, tokenizer().pad_token_id) == (0, 0, 1)
    assert token_texts(tokenizer(), [0, 1]) == (END_OF_TEXT, PAD)
    assert tokenizer().decode([0, *encode(tokenizer(), "abc").token_ids.tolist()], skip_special_tokens=True) == "abc"


@given(text=ANY_TEXT | TOKEN_TEXT)
def test_a_call_begins_with_the_begin_token_as_the_model_expects(text):
    ids = encode(tokenizer(), text).token_ids.tolist()
    for ours in (tokenizer(), *_loaded()):
        called = ours(text)
        assert list(called) == ["input_ids", "attention_mask"]
        assert called["input_ids"] == [ours.bos_token_id, *ids]
        assert called["attention_mask"] == [1] * (len(ids) + 1)
        assert ours(text, add_special_tokens=False)["input_ids"] == ids
        assert ours.decode(called["input_ids"], skip_special_tokens=True) == text


def test_every_row_of_a_batch_begins_with_the_begin_token_and_a_pair_has_one():
    for ours in (tokenizer(), *_loaded()):
        batch = ours(["the fox", "a"], padding=True, return_tensors="pt")
        assert list(batch) == ["input_ids", "attention_mask"]
        assert batch["input_ids"][:, 0].tolist() == [ours.bos_token_id] * 2
        assert batch["attention_mask"].sum(1).tolist() == [len(ours("the fox")["input_ids"]), 2]
        pair = [*encode(ours, "the").token_ids.tolist(), *encode(ours, " fox").token_ids.tolist()]
        assert ours("the", " fox")["input_ids"] == [ours.bos_token_id, *pair]


def test_a_call_that_truncates_and_pads_leaves_no_trace():
    digest = tokenizer_digest(tokenizer())
    tokenizer()(["a long text", "b"], padding=True, truncation=True, max_length=2)
    assert tokenizer_digest(tokenizer()) == digest
    assert tokenizer().decode(encode(tokenizer(), "a long text").token_ids.tolist()) == "a long text"


# Building, saving, loading -------------------------------------------------------------------------------------------


def test_the_same_texts_give_the_same_tokenizer():
    texts = ["one two three two three", "three 漢字 two"] * 20
    assert tokenizer_digest(build_tokenizer(texts)) == tokenizer_digest(build_tokenizer(iter(texts)))
    assert tokenizer_digest(build_tokenizer(texts)) != tokenizer_digest(build_tokenizer(texts[:1]))


def test_the_vocabulary_holds_every_byte():
    smallest = build_tokenizer([], vocab_size=258)
    assert len(smallest) == 258
    assert len(encode(smallest, "漢")) == 3
    with pytest.raises(ConfigError, match="vocab_size=257 must be at least 258"):
        build_tokenizer([], vocab_size=257)


@given(text=ANY_TEXT | TOKEN_TEXT)
@example(text="漢字 <|endoftext|> 12345\r\n\x00")
def test_a_saved_tokenizer_is_equal_after_loading(text):
    ours = encode(tokenizer(), text)
    for loaded in _loaded():
        assert encode(loaded, text).token_ids.tolist() == ours.token_ids.tolist()


def test_loading_keeps_the_special_tokens_and_the_context(tmp_path):
    for loaded in _loaded():
        assert tokenizer_digest(loaded) == tokenizer_digest(tokenizer())
        assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 0, 1)
        assert loaded.model_max_length == 512
        assert loaded.split_special_tokens


@functools.cache
def _loaded() -> tuple[PreTrainedTokenizerFast, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tokenizer().save_pretrained(folder)
        return (
            load_tokenizer(Path(folder)),
            AutoTokenizer.from_pretrained(folder),
            PreTrainedTokenizerFast.from_pretrained(folder),
        )


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{ not json", b"{}", b"[]", b"\xff\0", b'{"model": {"type": "BPE"}}', b"null"]
)
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer_is_refused_or_falls_back_to_the_same_ids(tmp_path, file, content):
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / file).write_bytes(content)
    try:
        loaded = load_tokenizer(tmp_path)
    except CheckpointError:
        pass
    else:
        assert encode(loaded, END_OF_TEXT).token_ids.tolist() == encode(tokenizer(), END_OF_TEXT).token_ids.tolist()


def lower_cased() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    lossy = Tokenizer(models.WordPiece({"[UNK]": 0, "ab": 1, "##ra": 2, "c": 3, "!": 4}, unk_token="[UNK]"))
    lossy.normalizer = normalizers.Lowercase()
    lossy.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=lossy, unk_token="[UNK]")


def test_tokens_of_a_tokenizer_that_normalises_stand_where_they_were_read(tmp_path):
    lower_cased().save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    encoded = encode(loaded, "Abra  C ünq!")
    assert encoded.token_ids.tolist() == [1, 2, 3, 0, 4]
    assert encoded.char_start.tolist() == [0, 2, 6, 8, 11]
    assert encoded.char_end.tolist() == [2, 4, 7, 11, 12]
    assert "".join(encoded.pieces) == "Abra  C ünq!"
    assert encoded.pieces == ("Ab", "ra", "  C", " ünq", "!")
    assert token_texts(loaded, [0, 1, 2]) == ("[UNK]", "ab", "ra")


@pytest.mark.parametrize("is_normalised", [True, False])
def test_pieces_and_bytes_stand_where_they_were_read(is_normalised):
    own = sentence_pieces(is_normalised=is_normalised)
    text = "the  fox \U0001f600日</s>\n"
    encoded = encode(own, text)
    assert "".join(encoded.pieces).replace(UNKNOWN_PIECE, "") == text
    assert not set(encoded.token_ids.tolist()) & set(own.all_special_ids)
    smile, sun = text.index("\U0001f600"), text.index("日")
    for place, size in ((smile, 4), (sun, 3)):
        found = np.flatnonzero(encoded.char_start == place)
        assert len(found) == size
        assert len(set(encoded.group[found].tolist())) == 1
        assert encoded.is_partial[found].tolist() == [False] + [True] * (size - 1)
        assert [encoded.pieces[one] for one in found] == [text[place]] + [UNKNOWN_PIECE] * (size - 1)
    assert token_texts(own, own.convert_tokens_to_ids(["<0x0A>", "<0xF0>", "t▁", "</s>"])) == (
        "\n",
        "\ufffd",
        "t ",
        "</s>",
    )


def test_a_space_that_was_put_before_the_text_takes_no_character():
    encoded = encode(sentence_pieces(), "日a")
    assert encoded.pieces == (" ", "日", UNKNOWN_PIECE, UNKNOWN_PIECE, "a")
    assert encoded.char_start.tolist() == [0, 0, 0, 0, 1]
    assert encoded.group.tolist() == [0, 0, 0, 0, 1]
    assert encode(sentence_pieces(), " a").pieces[0] == " "


def test_added_tokens_are_read_as_they_are_written():
    added, plain = copy.deepcopy(tokenizer()), copy.deepcopy(tokenizer())
    added.add_tokens(["<｜User｜>", AddedToken("<x>", lstrip=True)])
    user, eats = added.convert_tokens_to_ids(["<｜User｜>", "<x>"])
    assert token_texts(added, [user, len(added)]) == ("<｜User｜>", "\ufffd")
    assert not is_lossless(added)
    assert "".join(encode(added, "hi  <x> <｜User｜>you").pieces) == "hi  <x> <｜User｜>you"
    assert eats in encode(added, "hi  <x>").token_ids
    plain.add_tokens(["<｜User｜>"])
    assert is_lossless(plain)
    assert "".join(encode(plain, "hi <｜User｜>you").pieces) == "hi <｜User｜>you"


def test_special_tokens_around_a_text_are_those_of_the_tokenizer():
    own = tokenizer()
    assert frame_of(own, needs_begin=True).before == (own.bos_token_id,)
    plain = lower_cased()
    assert len(frame_of(plain, needs_begin=False)) == 0
    plain.add_special_tokens({"bos_token": "<s>"})
    assert frame_of(plain, needs_begin=True).before == (plain.bos_token_id,)
    assert frame_of(plain, needs_begin=False).before == ()


# Long text -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 5000), st.integers(1, 700))
def test_windows_follow_each_other_without_gap(num_units, context_length):
    windows = context_windows(num_units, context_length)
    units = np.arange(num_units)
    assert np.concatenate([units[window] for window in windows] or [units]).tolist() == units.tolist()
    assert all(window.stop - window.start == context_length for window in windows[:-1])
    assert all(0 < window.stop - window.start <= context_length for window in windows)


def test_a_context_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="context_length=0"):
        context_windows(3, 0)


@pytest.mark.parametrize("text", ["a" * 100_000, "漢" * 30_000, " " * 100_000, "\n" * 100_000, "e" + "\u0301" * 50_000])
def test_a_long_monotone_text_is_encoded_whole(text):
    encoded = encode(tokenizer(), text)
    assert int(encoded.char_end[-1]) == len(text)
    assert tokenizer().decode(encoded.token_ids.tolist()) == text
