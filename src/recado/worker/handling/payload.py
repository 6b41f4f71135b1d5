"""What a handler is given: a record's value in the type that its parameter's annotation names."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from recado.errors import HandlerError, Undecodable
from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.outcomes.history import HEADER_HISTORY
from recado.record import Record
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import Returned

__all__ = ["Payload", "payload_of"]

#: Makes a handler's argument of a consumed record: (message, its epoch, the attempt).
Payload = Callable[[Message, Epoch, int], Any]

#: Shown by every complaint about an annotation.
ALLOWED = "Record, bytes, str, dict, Any, a dataclass or a msgspec.Struct"

#: What a decoder raises for a value's sake: also for one nested too deeply, or a number that no Decimal holds.
_OF_THE_VALUE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


def payload_of(handler: Callable[..., Any], *, many: bool) -> Payload:
    """Read the annotation of the handler's one parameter. Raises HandlerError, which names the handler."""
    name = getattr(handler, "__qualname__", repr(handler))
    annotation = _annotation(handler, _parameter(handler, name), name)
    if many:
        if _without_none(annotation)[0] is Record:
            return record_of
        if get_origin(annotation) is not list:
            raise HandlerError(f"{name}: batch= needs a parameter annotated list[…], not {_shown(annotation)}.")
        annotation = get_args(annotation)[0]
    elif annotation is list or get_origin(annotation) is list:
        raise HandlerError(f"{name}: {_shown(annotation)} needs batch=(size, wait_s). (Annotate Any for JSON arrays.)")
    return _reader(annotation, name)


def record_of(message: Message, epoch: Epoch, attempt: int) -> Record:
    """Build the record right before the call: what waits in memory is the consumed message only."""
    if isinstance(message, Returned):
        return _returned_record(message, epoch, attempt)
    kind, timestamp_ms = message.timestamp()
    headers = headers_of(message)
    return Record(
        message.value(),
        epoch.topic,
        epoch.partition,
        message.offset(),
        timestamp_ms if kind else -1,
        message.key(),
        tuple(headers) if headers else (),
        attempt + epoch.deliveries.get(message.offset(), 1) - 1 if epoch.deliveries else attempt,
        epoch.group,
    )


def _returned_record(message: Returned, epoch: Epoch, attempt: int) -> Record:
    """The record as it stood first: a handler need not know by which way it came."""
    history = message.history
    return Record(
        message.value(),
        history.topic,
        history.partition,
        history.offset,
        history.timestamp_ms,
        message.key(),
        tuple(pair for pair in headers_of(message) if pair[0] != HEADER_HISTORY),
        history.attempts + attempt,
        epoch.group,
    )


def _parameter(handler: Callable[..., Any], name: str) -> inspect.Parameter:
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError) as error:
        raise HandlerError(f"{name}: its parameters cannot be read ({error}).") from error
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not positional or len(required) > 1 or (required and required[0] is not positional[0]):
        shown = f"{name}{inspect.signature(handler)}"
        raise HandlerError(f"{name}: a handler takes exactly one argument, the record; this one is {shown}.")
    return positional[0]


def _annotation(handler: Callable[..., Any], parameter: inspect.Parameter, name: str) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Record
    function = inspect.unwrap(handler)
    if not hasattr(function, "__globals__"):
        function = type(function).__call__  # an object that can be called
    scope = getattr(function, "__globals__", {})
    holder = type("Holder", (), {"__annotations__": {"value": annotation}})
    try:
        return get_type_hints(holder, globalns=scope, localns={})["value"]
    except NameError as error:
        detail = f"{error}. Define or import it at the top of the module that defines the handler"
        raise HandlerError(f"{name}: the annotation {annotation!r} cannot be resolved: {detail}.") from error


def _reader(annotation: Any, name: str) -> Payload:
    kind, optional = _without_none(annotation)
    if kind is Record:  # never None: the value of a tombstone's is
        return record_of
    if kind is bytes:
        return _value_reader(bytes, optional)
    if kind is str:
        return _value_reader(_text, optional)
    return _value_reader(_json_decoder(kind, name), optional)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into X and True."""
    if annotation is Any:
        return Any, True
    if get_origin(annotation) in (Union, types.UnionType):
        members = get_args(annotation)
        kept = tuple(member for member in members if member is not type(None))
        if len(kept) < len(members):
            return Union[kept], True  # noqa: UP007  # built from a tuple
    return annotation, False


def _json_decoder(kind: Any, name: str) -> Callable[[bytes], Any]:
    try:
        known = not isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
    except (TypeError, NameError) as error:
        raise HandlerError(f"{name}: a value cannot be decoded into {_shown(kind)}: {error}.") from error
    if not known:
        raise HandlerError(f"{name}: a value cannot be decoded into {_shown(kind)}; annotate {ALLOWED}.")
    return decoder.decode


def _value_reader(decode: Callable[[bytes], Any], optional: bool) -> Payload:
    def read(message: Message, epoch: Epoch, attempt: int) -> Any:
        value = message.value()
        if value is None:
            if optional:
                return None
            raise Undecodable("the value is a tombstone (null); annotate the parameter `… | None` to take those")
        try:
            return decode(value)
        except _OF_THE_VALUE as error:
            raise Undecodable(str(error)) from error

    return read


def _text(value: bytes) -> str:
    return value.decode("utf-8")


def _shown(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation)) if isinstance(annotation, type) else str(annotation)
