"""What makes two calls the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.gateway.cache import keys
from llmscope.gateway.cache.keys import answer_key, neighbourhood_key
from llmscope.gateway.stages import CacheQuery
from tests.llmscope.gateway.cache.purchases import QUESTION

TEXTS = st.text(max_size=6)
QUERIES = st.builds(
    CacheQuery,
    model=TEXTS,
    prompt=TEXTS,
    parameters=st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(0, 3), st.floats(0, 1)), max_size=3).map(
        lambda pairs: tuple(pairs.items())
    ),
    tenant_id=TEXTS,
)


def canonical(query: CacheQuery) -> tuple[object, ...]:
    return (query.model, query.prompt, dict(query.parameters), query.tenant_id)


@given(QUERIES, QUERIES)
def test_two_calls_have_one_key_exactly_if_they_are_the_same(one: CacheQuery, other: CacheQuery) -> None:
    assert (answer_key(one) == answer_key(other)) == (canonical(one) == canonical(other))


@pytest.mark.parametrize(
    "changed",
    [
        replace(QUESTION, model="gpt-4o"),
        replace(QUESTION, prompt="What is the capital of Germany?"),
        replace(QUESTION, parameters=(("max_output_tokens", 501), ("temperature", 0.0))),
        replace(QUESTION, parameters=(("max_output_tokens", "500"), ("temperature", 0.0))),
        replace(QUESTION, parameters=()),
        replace(QUESTION, tenant_id="globex"),
        # A colon between the parts, as in seed 002, makes one key of these two.
        replace(QUESTION, model="gpt-4o-mini:What", prompt=" is the capital of France?"),
    ],
)
def test_whatever_changes_the_answer_changes_the_key(changed: CacheQuery) -> None:
    assert answer_key(changed) != answer_key(QUESTION)


def test_what_moves_from_one_part_to_the_next_changes_the_key() -> None:
    assert answer_key(replace(QUESTION, model="ab", prompt="c")) != answer_key(
        replace(QUESTION, model="a", prompt="bc")
    )
    assert answer_key(replace(QUESTION, parameters=(("a", "b"), ("c", "d")))) != answer_key(
        replace(QUESTION, parameters=(("a", 'b"],["c'), ("", "d")))
    )


def test_parts_that_are_merely_joined_make_one_key_of_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of seed 002: `model:prompt:parameters`."""
    monkeypatch.setattr(keys.json, "dumps", lambda parts, **kwargs: ":".join(map(str, parts)))
    one, other = replace(QUESTION, model="a:b", prompt="c"), replace(QUESTION, model="a", prompt="b:c")
    assert answer_key(one) == answer_key(other)
    monkeypatch.undo()
    assert answer_key(one) != answer_key(other)


def test_the_order_of_parameters_and_the_form_of_a_number_do_not_change_the_key() -> None:
    other = replace(QUESTION, parameters=(("temperature", 0), ("max_output_tokens", 500.0)))
    assert answer_key(other) == answer_key(QUESTION)


def test_a_shared_key_leaves_the_tenant_out_and_is_nobody_elses() -> None:
    shared = answer_key(QUESTION, share_between_tenants=True)
    assert shared == answer_key(replace(QUESTION, tenant_id="globex"), share_between_tenants=True)
    assert shared != answer_key(QUESTION)
    for tenant_id in ("", "null", "None"):
        assert shared != answer_key(replace(QUESTION, tenant_id=tenant_id))


def test_a_neighbourhood_is_all_prompts_of_one_model_parameters_and_tenant() -> None:
    assert neighbourhood_key(QUESTION) == neighbourhood_key(replace(QUESTION, prompt="anything"))
    assert neighbourhood_key(QUESTION) != neighbourhood_key(replace(QUESTION, model="gpt-4o"))
    assert neighbourhood_key(QUESTION) != neighbourhood_key(replace(QUESTION, parameters=()))
    assert neighbourhood_key(QUESTION) != neighbourhood_key(replace(QUESTION, tenant_id="globex"))
    assert neighbourhood_key(QUESTION) != answer_key(QUESTION)


def test_a_key_tells_nothing_of_the_prompt_and_takes_any_text() -> None:
    key = answer_key(replace(QUESTION, prompt="half of a pair: \ud800"))
    assert len(key) == 64
    assert int(key, 16)
