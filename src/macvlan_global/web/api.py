"""The data of the page below /api/: what the commands print with `--json`, and the OpenAPI document that describes it.

`ROUTES` is the one table of paths: the server answers by it, and the document is made from it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from macvlan_global import __version__
from macvlan_global.admin import messages as a
from macvlan_global.admin.views import Views
from macvlan_global.doctor.findings import Report, report
from macvlan_global.driver.driver import Driver
from macvlan_global.errors import Unavailable
from macvlan_global.web.feed import read_report
from macvlan_global.web.messages import AddressNews, Hello, HostReport, Topics
from macvlan_global.web.reporter import HostReporter

AT_ONCE = 1000
"""Rows that are encoded before the event loop gets its turn."""


class PageData:
    """Answers of the page. The commands have the same."""

    def __init__(self, views: Views, driver: Driver, reporter: HostReporter) -> None:
        """Answer from these."""
        self.views = views
        self._driver = driver
        self._reporter = reporter

    async def doctor(self) -> Report:
        """See `macvlan-global doctor --json`."""
        return report(await self._reporter.examine())

    async def reports(self) -> list[HostReport]:
        """Reports of all hosts, this one's first. Those of others are missing while the store does not answer."""
        own = await self._reporter.refresh()
        try:
            rows = await self._driver.tables.reports.scan()
        except Unavailable:
            rows = []
        others = [read_report(row.record) for row in rows if row.record.id != own.id]
        return [own, *sorted(filter(None, others), key=lambda each: each.name)]


@dataclass(frozen=True, slots=True)
class DataPath:
    """A path below /api/. `takes` names the one parameter that it has, "" for none; `kind` is the type of its
    answer."""

    path: str
    summary: str
    kind: Any
    answer: Callable[[PageData, str], Awaitable[object]]
    takes: str = ""
    required: bool = False


ROUTES = (
    DataPath("status", "macvlan-global status --json", a.Status, lambda data, _: data.views.status()),
    DataPath("networks", "macvlan-global networks --json", list[a.NetworkView], lambda data, _: data.views.networks()),
    DataPath(
        "addresses",
        "macvlan-global addresses --json",
        list[a.AddressView],
        lambda data, network: data.views.addresses(network),
        takes="network",
    ),
    DataPath(
        "addresses/remembered",
        "macvlan-global addresses --remembered --json",
        list[a.RememberedView],
        lambda data, network: data.views.remembered(network),
        takes="network",
    ),
    DataPath(
        "parents",
        "macvlan-global parents NETWORK --json",
        a.ChoiceView,
        lambda data, network: data.views.parents(network),
        takes="network",
        required=True,
    ),
    DataPath("hosts", "macvlan-global hosts --json", list[a.HostView], lambda data, _: data.views.hosts()),
    DataPath(
        "conflicts", "macvlan-global conflicts --json", list[a.ConflictView], lambda data, _: data.views.conflicts()
    ),
    DataPath("doctor", "macvlan-global doctor --json", Report, lambda data, _: data.doctor()),
    DataPath("reports", "reports of all hosts about themselves", list[HostReport], lambda data, _: data.reports()),
)

EVENTS: Mapping[str, type] = {
    "hello": Hello,
    "addresses": AddressNews,
    "report": HostReport,
    "changed": Topics,
}
"""Events of /api/events, by name."""


async def encode(body: object) -> bytes:
    """JSON of an answer. Of a long list others have their turn in between."""
    if not isinstance(body, list) or len(body) <= AT_ONCE:
        return msgspec.json.encode(body)
    pieces = []
    for start in range(0, len(body), AT_ONCE):
        pieces.append(msgspec.json.encode(body[start : start + AT_ONCE])[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(pieces) + b"]"


def openapi() -> dict[str, Any]:
    """The OpenAPI document of /api/."""
    kinds = [*(route.kind for route in ROUTES), a.Problem, *EVENTS.values()]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(map(str, kinds), schemas, strict=True))
    paths: dict[str, Any] = {f"/api/{route.path}": {"get": _operation(route, by_kind)} for route in ROUTES}
    events = "; ".join(f"{name}: {kind.__name__}" for name, kind in EVENTS.items())
    paths["/api/events"] = {
        "get": {
            "summary": f"changes as server-sent events. {events}",
            "responses": {"200": {"description": "a stream", "content": {"text/event-stream": {}}}} | _refusals(),
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "macvlan-global", "version": __version__, "description": "Read only."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: DataPath, schemas: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"description": "the answer", "content": _json(schemas[str(route.kind)])}
    parameter = {"name": route.takes, "in": "query", "required": route.required, "schema": {"type": "string"}}
    return {
        "summary": route.summary,
        **({"parameters": [parameter]} if route.takes else {}),
        "responses": {"200": answer} | _refusals(),
    }


def _refusals() -> dict[str, Any]:
    return {"default": {"description": "an error", "content": _json({"$ref": "#/components/schemas/Problem"})}}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
