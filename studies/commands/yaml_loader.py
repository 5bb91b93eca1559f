"""YAML as far as it is safe and says one thing: no tags, no key twice, nothing that unfolds without end; 1e-3 is a number."""

import re
from typing import Any, Self

import yaml
from yaml.constructor import ConstructorError

MOST_DEEP = 50  # lists and mappings inside each other; a configuration has about ten
MOST_REPEATED = 10_000  # values that aliases may add: ten lines of aliases can stand for billions
MERGE = "tag:yaml.org,2002:merge"
TIMESTAMP = "tag:yaml.org,2002:timestamp"  # a date is no value of any option, so it is text


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe loader, which reads ``1e-3`` as the number it is and refuses a key that stands twice in a mapping."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != TIMESTAMP]
        for first, known in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_document(self, node: yaml.Node) -> Any:
        _require_keys_once(node, set())  # before merge keys (<<) are put in, which mappings may override
        return super().construct_document(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        str(value)  # a ValueError for one of thousands of digits, in hexadecimals say: no sentence could show it
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def load_yaml(text: str) -> Any:
    """What a YAML text says, as plain values.

    Raises YAMLError, in one line that names the place where it is known, for what is not YAML and for what no configuration
    needs: tags such as ``!!python/name:os.system``, the same key twice, deep nesting, aliases that stand for very many values.
    """
    try:
        _require_plain(text)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number too long to convert, half a character
        raise yaml.YAMLError(" ".join(str(error).split()).replace('in "<unicode string>", ', "in ")) from error


def _require_plain(text: str) -> None:
    """Read the text as events, so that nothing is built of what is refused."""
    around = [_Collection(None)]  # those that are open, the innermost last; the first one is the document
    closed: dict[str | None, _Collection] = {}
    repeated = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        inner = around[-1]
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in [outer.anchor for outer in around]:
                raise _refusal(f"alias {event.anchor!r} stands inside what it stands for", event)
            meant = closed.get(event.anchor, _Collection(None))
            repeated += meant.values
            if repeated > MOST_REPEATED:
                raise _refusal(f"aliases stand for more than {MOST_REPEATED:,} values", event)
            inner.put(meant)
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            if event.tag is not None:
                raise _refusal(f"tags are not read, got {event.tag!r}", event)
            if isinstance(event, yaml.ScalarEvent):
                inner.values += 1
            else:
                around.append(_Collection(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            around[-2].put(around.pop())
            if inner.anchor is not None:
                closed[inner.anchor] = inner
        if len(around) - 1 + around[-1].depth > MOST_DEEP:
            raise _refusal(f"lists and mappings are nested deeper than {MOST_DEEP} levels", event)


class _Collection:
    """A list or mapping: how many values it unfolds to, itself among them, and how many levels are inside it."""

    def __init__(self, anchor: str | None) -> None:
        self.anchor, self.values, self.depth = anchor, 1, 0

    def put(self, inner: Self) -> None:
        self.values += inner.values
        self.depth = max(self.depth, inner.depth + 1)


def _require_keys_once(node: yaml.Node, seen: set[int]) -> None:
    if isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    inside = node.value
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            said = key.tag, key.value
            if said in lines:
                raise _refusal(f"key {key.value!r} stands twice, first in line {lines[said]}, again", key)
            lines[said] = key.start_mark.line + 1
        for key, value in node.value:  # more PyYAML 6.0.4 mixes up, without a word
            if key.tag == MERGE and (not isinstance(value, yaml.MappingNode) or MERGE in [k.tag for k, _ in value.value]):
                raise _refusal("a merge key (<<) must name one mapping, which has none itself,", key)
        inside = [part for pair in node.value for part in pair]
    for part in inside:
        _require_keys_once(part, seen)


def _refusal(problem: str, place: Any) -> ConstructorError:  # a node or an event
    return ConstructorError(None, None, problem, place.start_mark)
