"""A workspace's things as Notion's API shows them, version 2026-03-11."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from tests.fakes.notion_workspace import Block, Property, Thing, Workspace

PERSON: dict[str, Any] = {"object": "user", "id": "0bbb0000-0000-4000-8000-000000000001"}
BOT_ID = "0bbb0000-0000-4000-8000-000000000002"
MOST_REFERENCES = 25

_HEADINGS = {"heading_1": "# ", "heading_2": "## ", "heading_3": "### "}
_MARKS = {**_HEADINGS, "bulleted_list_item": "- ", "numbered_list_item": "1. ", "to_do": "- [ ] ", "quote": "> "}
_NO_MARKDOWN = ("bookmark", "embed", "link_preview", "breadcrumb", "template", "unsupported")
_FILES = ("file", "image", "pdf", "video", "audio")


def minute(moment: datetime) -> str:
    """Notion's times: rounded down to the minute since 2022-07-01."""
    return moment.strftime("%Y-%m-%dT%H:%M:00.000Z")


def address(external_id: str, block_id: str | None = None) -> str:
    fragment = f"#{block_id.replace('-', '')}" if block_id else ""
    return f"https://www.notion.so/{external_id.replace('-', '')}{fragment}"


def rich_text(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    plain = {"bold": False, "italic": False, "strikethrough": False, "underline": False, "code": False}
    return [
        {
            "type": "text",
            "text": {"content": text, "link": None},
            "annotations": {**plain, "color": "default"},
            "plain_text": text,
            "href": None,
        }
    ]


class Shown:
    """Renders things. Signed addresses differ in each answer: `signatures` counts them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.signatures = 0

    def of(self, thing: Thing) -> dict[str, Any]:
        return {"page": self.page, "database": self.database, "data_source": self.data_source}[thing.kind](thing)

    def page(self, thing: Thing) -> dict[str, Any]:
        title = {"id": "title", "type": "title", "title": rich_text(thing.title)}
        name = "Name" if thing.parent[0] == "data_source" else "title"
        shown = {name: title, **{key: self._property(value) for key, value in thing.properties.items()}}
        return {
            **self._common(thing),
            "is_archived": False,
            "is_locked": False,
            "created_by": PERSON,
            "last_edited_by": PERSON,
            "parent": self._parent(thing),
            "properties": shown,
        }

    def database(self, thing: Thing) -> dict[str, Any]:
        sources = self._workspace.sources_of(thing.id)
        return {
            **self._common(thing),
            "title": rich_text(thing.title),
            "description": [],
            "parent": self._parent(thing),
            "is_inline": False,
            "is_locked": False,
            "data_sources": [{"id": source.id, "name": source.title} for source in sources],
        }

    def data_source(self, thing: Thing) -> dict[str, Any]:
        database = self._workspace.things[str(thing.parent[1])]
        return {
            **self._common(thing),
            "title": rich_text(thing.title),
            "description": [],
            "parent": self._parent(thing),
            "database_parent": self._parent(database),
            "is_inline": False,
            "created_by": PERSON,
            "last_edited_by": PERSON,
            "properties": {"Name": {"id": "title", "name": "Name", "type": "title", "title": {}, "description": None}},
        }

    def block(self, block: Block, parent: dict[str, Any]) -> dict[str, Any]:
        held = self._workspace.things.get(block.id)
        content = held.content if held is not None else block.children
        return {
            "object": "block",
            "id": block.id,
            "type": block.type,
            block.type: {"title": held.title} if held is not None else self._inner(block),
            "parent": parent,
            "created_time": minute(self._workspace.now),
            "created_by": PERSON,
            "last_edited_time": minute(self._workspace.now),
            "last_edited_by": PERSON,
            "has_children": bool(content),
            "in_trash": False,
            "archived": False,
        }

    def property_item(self, value: Property, part: Any) -> dict[str, Any]:
        return {"object": "property_item", "id": value.id, "type": value.type, value.type: part}

    def markdown(self, content: list[Block], page_id: str, user: str, most: int) -> tuple[str, list[str], int]:
        """Render blocks; returns the text, the ids it left out because of their number or of rights, and how many fit."""
        lines: list[str] = []
        left_out: list[str] = []
        used = 0
        for block in content:
            held = self._workspace.things.get(block.id)
            if held is not None and not self._workspace.sees(user, block.id):
                left_out.append(block.id)
                lines.append(f'<unknown url="{address(block.id)}" alt="{block.type}"/>')
                continue
            if held is not None and held.is_trashed:
                continue
            if used >= most:
                left_out.append(block.id)
                lines.append(f'<unknown url="{address(page_id, block.id)}" alt="{block.type}"/>')
                continue
            used += 1
            lines.append(self._line(block, page_id))
            inside, more, extra = self.markdown(block.children, page_id, user, most - used)
            used += extra
            left_out += more
            lines += [f"\t{line}" for line in inside.splitlines()]
        return "\n".join(lines), left_out, used

    def _line(self, block: Block, page_id: str) -> str:
        held = self._workspace.things.get(block.id)
        if held is not None:
            tag = "page" if held.kind == "page" else "database"
            return f'<{tag} url="{address(block.id)}">{held.title}</{tag}>'
        if block.type in _NO_MARKDOWN:
            return f'<unknown url="{address(page_id, block.id)}" alt="{block.type}"/>'
        if block.type in _FILES:
            url, caption = self._signed(block), block.text
            return (
                f"![{caption}]({url})"
                if block.type == "image"
                else f'<{block.type} src="{url}">{caption}</{block.type}>'
            )
        if block.type == "code":
            return f"```{block.inner.get('language', '')}\n{block.text}\n```"
        if block.type == "callout":
            return f'<callout icon="\N{ELECTRIC LIGHT BULB}" color="gray_bg">\n{block.text}\n</callout>'
        return f"{_MARKS.get(block.type, '')}{block.text}"

    def _inner(self, block: Block) -> dict[str, Any]:
        if block.type in _FILES:
            expiry = f"2020-06-01T10:{self.signatures % 60:02d}:00.000Z"
            file = {"url": self._signed(block), "expiry_time": expiry}
            return {"caption": rich_text(block.text), "type": "file", "file": file, **block.inner}
        if block.type in ("synced_block", "unsupported", "divider", "table_row", "column_list", "column", "bookmark"):
            return dict(block.inner)
        return {"rich_text": rich_text(block.text), "color": "default", **block.inner}

    def _signed(self, block: Block) -> str:
        self.signatures += 1
        name = quote(block.inner.get("name", "file.bin"))
        return (
            f"https://prod-files-secure.s3.us-west-2.amazonaws.com/space/{block.id}/{name}"
            f"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature=sig{self.signatures:08d}"
        )

    def _property(self, value: Property) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": value.id, "type": value.type, value.type: value.inner}
        if value.type in ("relation", "people"):
            shown[value.type] = value.inner[:MOST_REFERENCES]
        if value.type == "relation":
            shown["has_more"] = len(value.inner) > MOST_REFERENCES
        if value.type == "files":
            shown["files"] = [self._file(name) for name in value.inner]
        return shown

    def _file(self, name: str) -> dict[str, Any]:
        self.signatures += 1
        url = f"https://prod-files-secure.s3.us-west-2.amazonaws.com/space/{name}?X-Amz-Signature=sig{self.signatures:08d}"
        return {"name": name, "type": "file", "file": {"url": url, "expiry_time": "2020-06-01T10:00:00.000Z"}}

    def _parent(self, thing: Thing) -> dict[str, Any]:
        kind, external_id = thing.parent
        if external_id is None:
            return {"type": "workspace", "workspace": True}
        if kind == "data_source":
            database = self._workspace.things[external_id].parent[1]
            return {"type": "data_source_id", "data_source_id": external_id, "database_id": database}
        return {"type": f"{kind}_id", f"{kind}_id": external_id}

    def _common(self, thing: Thing) -> dict[str, Any]:
        is_trashed = self._workspace.is_in_trash(thing.id)
        return {
            "object": thing.kind,
            "id": thing.id,
            "created_time": minute(thing.created),
            "last_edited_time": minute(thing.edited),
            "in_trash": is_trashed,
            "archived": is_trashed,
            "icon": None,
            "cover": None,
            "url": address(thing.id),
            "public_url": None,
        }
