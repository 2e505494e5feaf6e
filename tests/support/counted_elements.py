"""Documents whose elements count how they are read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lxml import etree


@dataclass
class Steps:
    """What was done with the elements of a document: walks over children and reads of texts, by the element's tag."""

    walks: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All steps."""
        return self.walks.total() + self.texts.total()


def counted(text: str) -> tuple[etree._Element, Steps]:
    """Return the root of a document, and the steps that its elements count."""
    steps = Steps()

    class CountedElement(etree.ElementBase):
        def __iter__(self) -> Any:
            steps.walks[str(self.tag)] += 1
            return super().__iter__()

        def iterchildren(self, *args: Any, **options: Any) -> Any:
            steps.walks[str(self.tag)] += 1
            return super().iterchildren(*args, **options)

        @property
        def text(self) -> Any:  # type: ignore[override]
            steps.texts[str(self.tag)] += 1
            return super().text

    parser = etree.XMLParser()
    parser.set_element_class_lookup(etree.ElementDefaultClassLookup(element=CountedElement))
    return etree.fromstring(text, parser), steps
