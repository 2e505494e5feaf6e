"""The calls on documents."""

from __future__ import annotations

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import NAME_MAX, Kind, Right
from econed.sandbox.objects.documents import Document
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal
from econed.sandbox.template import Template


class DocumentCalls:
    """`one.document.*`, `one.documentpool.info`. Names need not be unique, and may contain any character."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.document.allocate", str, int)
    def allocate(self, caller: User, text: str, document_type: int) -> int:
        """Allocate a document of a type; without a NAME it is named after its id."""
        template = self._cloud.parse(text)
        return self._create(caller, template.get("NAME"), template, document_type)

    def _create(self, caller: User, name: str, template: Template, document_type: int) -> int:
        pool = self._cloud.documents
        self._cloud.rights.check(caller, Right.CREATE, Kind.DOCUMENT, None)
        if len(name.encode()) > NAME_MAX:
            raise internal(f"NAME is too long; max length is {NAME_MAX} chars.")
        template.pop("NAME")
        document_id = pool.allocate_id()
        owner = (caller.id, caller.gid, caller.name, caller.gname)
        name = name or f"document-{document_id}"
        pool.add(Document(document_id, *owner, name, template=template, type=document_type))
        return document_id

    @serves("one.document.info", int, optional=(bool,))
    def info(self, caller: User, document_id: int, _decrypt: bool = False) -> str:
        """Return a document."""
        return self._cloud.get_authorized(caller, Right.USE, self._cloud.documents, document_id, locks=False).xml()

    @serves("one.documentpool.info", int, int, int, int)
    def pool(self, caller: User, owner: int, start: int, end: int, document_type: int) -> str:
        """Return the documents of a type that the caller may use."""
        of_type = (document for document in self._cloud.documents.newest_first() if document.type == document_type)
        documents = self._cloud.visible(caller, of_type, Kind.DOCUMENT, owner)
        return f"<DOCUMENT_POOL>{''.join(document.xml() for document in page(documents, start, end))}</DOCUMENT_POOL>"

    def _managed(self, caller: User, document_id: int) -> Document:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.documents, document_id)

    @serves("one.document.update", int, str, optional=(int,))
    def update(self, caller: User, document_id: int, text: str, append: int = 0) -> int:
        """Replace a document's attributes (0), or merge into them (1)."""
        document = self._managed(caller, document_id)
        document.template = self._cloud.updated_template(caller, document.template, text, append)
        return document_id

    @serves("one.document.clone", int, str)
    def clone(self, caller: User, document_id: int, name: str) -> int:
        """Copy a document to a document of the caller."""
        document = self._cloud.get_to_clone(caller, self._cloud.documents, document_id)
        return self._create(caller, name, document.template.copy(), document.type)

    @serves("one.document.delete", int)
    def delete(self, caller: User, document_id: int) -> int:
        """Delete a document."""
        self._cloud.documents.remove(self._managed(caller, document_id))
        return document_id
