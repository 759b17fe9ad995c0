"""The gate around a function: decide before the call, hand it the admission, settle from what it returns.

    @governed(gate, route_name="/answer-routed", model_tier="expensive", usage=bill_of)
    def answer(prompt: str, *, admission: Admission) -> Response:
        return client.responses.create(model=admission.model, input=prompt)

What does not belong here: deciding (`gate`), billing (`admission`), anything a vendor's SDK knows.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from llmscope.context import LLMRequestContext
from policy_runtime.admission import Admission
from policy_runtime.gate import PolicyRuntime

logger = logging.getLogger("policy_runtime")

R = TypeVar("R")

# What the function takes the admission as, and what a call of the decorated function must not give.
_ADMISSION = "admission"
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def governed(
    gate: PolicyRuntime | Callable[[], PolicyRuntime],
    *,
    route_name: str | Callable[..., str],
    model_tier: str | Callable[..., str],
    usage: Callable[[Any], Mapping[str, Any] | None] | None = None,
    context: LLMRequestContext | Callable[..., LLMRequestContext | None] | None = None,
    prompt: Callable[..., str] | None = None,
    tokens_in: int | Callable[..., int | None] | None = None,
    max_output_tokens: int | Callable[..., int | None] | None = None,
    model: str | Callable[..., str | None] | None = None,
    request_id: Callable[..., str | None] | None = None,
    ttl_seconds: float | None = None,
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Put a function, coroutine function or (async) generator function behind the gate.

    The function takes a keyword `admission`; its callers do not give it. Everything that `admit` takes
    is given as a value, or as a function of the call's arguments: `context=lambda user:
    LLMRequestContext(tenant_id=user.tenant)` is called with the argument `user` of each call. `prompt`
    and `context` that are not given are the arguments of that name, where the function has them.

    Settling: the function may call `admission.settle` itself; else `usage` is called with what it
    returned, and gives the keywords of `Admission.settle`, or None when nobody knows the bill. Without
    either the reservation stands until it expires. Of a `usage` that fails or an incomplete one, the
    process's log tells; the answer, which has been paid for, is returned. A function that raises is
    billed as an `admit` block left by an exception is. Generator functions decide when they are first
    iterated and settle themselves, best in a `finally`.

    Args:
        gate: the gate, or a function that gives it, called at each call, so that no gate need be
            built at import.
        usage: from the return value to the bill.

    Raises:
        TypeError: when decorating: the function takes no `admission`, an argument that is asked for is
            none of its own, nothing says what the prompt is, or `usage` is given for a generator.
        PolicyDenied: when called, after the decision is on disk; the function has not been called.
        TypeError: when called: a plain function returned an awaitable.
    """
    asked: dict[str, Any] = {
        "route_name": route_name,
        "model_tier": model_tier,
        "context": context,
        "prompt": prompt,
        "tokens_in": tokens_in,
        "max_output_tokens": max_output_tokens,
        "model": model,
        "request_id": request_id,
        "ttl_seconds": ttl_seconds,
    }

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        outer = _outer_signature(function)
        questions = _Questions(function, outer, asked)

        def admission_for(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Admission:
            the_gate = gate if isinstance(gate, PolicyRuntime) else gate()
            return the_gate.admit(**questions.for_call(args, kwargs))

        wrapper = _wrapper_of(function, usage, admission_for)
        functools.update_wrapper(wrapper, function)
        wrapper.__signature__ = outer  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _wrapper_of(
    function: Callable[..., Any],
    usage: Callable[[Any], Mapping[str, Any] | None] | None,
    admission_for: Callable[[tuple[Any, ...], dict[str, Any]], Admission],
) -> Callable[..., Any]:
    """The wrapper of the same kind as the function: plain, coroutine, generator or async generator."""
    if usage is not None and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        raise TypeError(
            f"{_name(function)} is a generator: it returns nothing that usage= could read. "
            "Call admission.settle in its finally block"
        )

    if inspect.isasyncgenfunction(function):

        async def iterate_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with (
                admission_for(args, kwargs) as admission,
                aclosing(function(*args, admission=admission, **kwargs)) as items,
            ):
                async for item in items:
                    yield item

        return iterate_async

    if inspect.isgeneratorfunction(function):

        def iterate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with admission_for(args, kwargs) as admission:
                return (yield from function(*args, admission=admission, **kwargs))

        return iterate

    if inspect.iscoroutinefunction(function):

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            async with admission_for(args, kwargs) as admission:
                answer = await function(*args, admission=admission, **kwargs)
                _settle_from(answer, usage, admission)
            return answer

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        with admission_for(args, kwargs) as admission:
            answer = function(*args, admission=admission, **kwargs)
            if inspect.isawaitable(answer):
                raise TypeError(
                    f"{_name(function)} returned an awaitable, whose call would be made after the admission "
                    "has been left: write it as `async def` and await inside"
                )
            _settle_from(answer, usage, admission)
        return answer

    return call


def _settle_from(
    answer: Any, usage: Callable[[Any], Mapping[str, Any] | None] | None, admission: Admission
) -> None:
    """Settle from what the function returned, unless it settled itself."""
    if usage is None or admission.settled:
        return
    try:
        bill = usage(answer)
        if bill is not None:
            admission.settle(**bill)
    except Exception:  # the caller's own function may raise anything; a paid answer is not lost to it
        logger.exception(
            "request %s is not settled, its reservation stands until it expires: usage= failed on what the "
            "function returned",
            admission.request_id,
        )


class _Questions:
    """What the gate is asked for one call, from the call's arguments.

    Raises:
        TypeError: what is asked for cannot be had from the function's arguments.
    """

    def __init__(
        self, function: Callable[..., Any], outer: inspect.Signature, asked: Mapping[str, Any]
    ) -> None:
        self._outer = outer
        self._values = {name: value for name, value in asked.items() if not callable(value)}
        self._functions = {
            name: (value, _names_read_by(value, name, function, outer))
            for name, value in asked.items()
            if callable(value)
        }
        self._same_name = [
            name for name in ("prompt", "context") if asked[name] is None and name in outer.parameters
        ]
        if asked["prompt"] is None and asked["tokens_in"] is None and "prompt" not in outer.parameters:
            raise TypeError(
                f"{_name(function)} has no argument named 'prompt': give governed() prompt= or tokens_in=, "
                "a function of its arguments"
            )

    def for_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The keywords of `admit` for a call with these arguments.

        Raises:
            TypeError: the function cannot be called with them.
        """
        bound = self._outer.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        for parameter in self._outer.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name)
        answers = dict(self._values)
        for name, (function, names) in self._functions.items():
            answers[name] = function(
                **(given if names is None else {key: given[key] for key in names if key in given})
            )
        for name in self._same_name:
            answers[name] = given[name]
        return answers


def _outer_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The function's signature as its callers see it: without `admission`."""
    signature = inspect.signature(function)
    parameters = signature.parameters
    admission = parameters.get(_ADMISSION)
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    if (admission is None and not takes_any) or (admission is not None and admission.kind not in _NAMED):
        raise TypeError(
            f"{_name(function)} must take the keyword 'admission': it says which model to call and how much "
            "it may answer"
        )
    return signature.replace(
        parameters=[parameter for name, parameter in parameters.items() if name != _ADMISSION]
    )


def _names_read_by(
    asking: Callable[..., Any], name: str, function: Callable[..., Any], outer: inspect.Signature
) -> list[str] | None:
    """The arguments that `asking` wants by name; None when it takes all of them."""
    wanted = inspect.signature(asking).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in wanted):
        return None
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in outer.parameters.values())
    names = [parameter.name for parameter in wanted if parameter.kind in _NAMED]
    missing = [one for one in names if one not in outer.parameters]
    if len(names) != len(wanted) or (missing and not open_ended):
        raise TypeError(
            f"{name}= asks for {', '.join(missing) or 'arguments without names'}, but {_name(function)} "
            f"takes {', '.join(outer.parameters) or 'no arguments'}"
        )
    return names


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__qualname__', repr(function))}()"
