from models.chat import documented_functions
from models.corpus import (
    Corpus,
    SourceFile,
    cap_packages,
    is_held_out,
    is_prose,
    path_digest,
    seen_line_share,
    source_paths,
)


def source(name: str, *, package: str = "pkg", text: str = "x = 1\n") -> SourceFile:
    return SourceFile(name=name, package=package, text=text)


def test_path_digest_never_changes() -> None:
    assert path_digest("stdlib/json/decoder.py") == 11772995747406632202


def test_about_one_in_64_is_held_out() -> None:
    names = [f"purelib/package/module_{index}.py" for index in range(20_000)]
    held_out = sum(map(is_held_out, names))
    assert 230 < held_out < 400


def test_installed_source_is_named_relative_to_its_root() -> None:
    found = {name: path for name, _, path in source_paths()}
    assert found["stdlib/json/decoder.py"].parts[-2:] == ("json", "decoder.py")
    assert not any(name.startswith("/") or "/_vendor/" in name for name in found)
    assert not any(name.startswith("stdlib/site-packages/") for name in found)


def test_cap_stops_a_package_and_leaves_others_alone(monkeypatch) -> None:
    monkeypatch.setattr("models.corpus.PACKAGE_CAP_BYTES", 10)
    files = [source("a", text="12345678"), source("b", text="12345678"), source("c", package="other")]
    assert [file.name for file in cap_packages(files)] == ["a", "c"]


def test_data_tables_and_special_tokens_are_not_prose() -> None:
    code = "def add(first, second):\n    return first + second\n" * 10
    assert is_prose(code)
    assert not is_prose("TABLE = [\n" + "    0x1234, 0x5678, 99999,\n" * 40 + "]\n")
    assert not is_prose(code + "# <|endoftext|>\n")


def test_seen_lines_count_only_long_lines_found_in_training() -> None:
    long_line = "result = compute_something_rather_long(first, second)"
    corpus = Corpus(
        train=(source("a", text=long_line + "\nx = 1\n"),),
        held_out=(source("b", text=f"  {long_line}\n{long_line}  # changed\nx = 1\n"),),
    )
    assert seen_line_share(corpus) == 0.5


def test_documented_functions_carry_name_summary_and_source() -> None:
    text = 'def twice(x):\n    """Double x.\n\n    More.\n    """\n    return 2 * x\n\ndef bare():\n    pass\n'
    [(name, summary, code)] = documented_functions(text)
    assert (name, summary) == ("twice", "Double x.")
    assert code.startswith("def twice")
    assert code.endswith("return 2 * x")
