"""Routes of the pack: what its JavaScript may ask, and nothing that the nodes could not read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..photo_folders import claim_folder
from ..ui.early_end import EARLY_END
from ..ui.running_server import running_server
from .pictures import concept_picture, describe_concepts, describe_folder, photo_picture

log = logging.getLogger(__name__)

_KEPT = {"Cache-Control": "private, max-age=86400"}  # the address names the file's version
_PREFIX = "/attndreambooth"


def add_routes() -> bool:
    """Adds them to the host's server; whether there is one (a test or a program has none)."""
    found = running_server()
    if found is None:
        return False
    found.routes.get(f"{_PREFIX}/photos")(_photos)
    found.routes.get(f"{_PREFIX}/photo")(_photo)
    found.routes.post(f"{_PREFIX}/folder")(_folder)
    found.routes.get(f"{_PREFIX}/concepts")(_concepts)
    found.routes.get(f"{_PREFIX}/concept")(_concept)
    found.routes.post(f"{_PREFIX}/end_stage")(_end_stage)
    return True


async def _photos(request: web.Request) -> web.Response:
    folder = request.query.get("folder", "")
    return web.json_response(await asyncio.to_thread(describe_folder, folder))


async def _photo(request: web.Request) -> web.Response:
    asked = request.query.get("folder", ""), request.query.get("version", "")
    return await _picture(lambda: photo_picture(*asked))


async def _folder(request: web.Request) -> web.Response:
    """A new folder below input/, for an upload; its name is like the wanted one."""
    try:
        wanted = (await request.json()).get("name", "")
    except (ValueError, AttributeError):
        return web.Response(status=400, text='a JSON object is expected: {"name": "my-dog"}')
    try:
        return web.json_response({"folder": await asyncio.to_thread(claim_folder, str(wanted))})
    except OSError as error:
        return web.Response(status=500, text=f"no folder can be made below input/: {error}")


async def _end_stage(request: web.Request) -> web.Response:
    """The stage that this node trains ends after the step it is at, with what it has learned."""
    try:
        node = (await request.json()).get("node", "")
    except (ValueError, AttributeError):
        return web.Response(status=400, text='a JSON object is expected: {"node": "12"}')
    if not EARLY_END.ask(str(node)):
        return web.Response(status=409, text="this node trains nothing at the moment")
    return web.json_response({})


async def _concepts(request: web.Request) -> web.Response:
    return web.json_response({"concepts": await asyncio.to_thread(describe_concepts)})


async def _concept(request: web.Request) -> web.Response:
    name = request.query.get("name", "")
    return await _picture(lambda: concept_picture(name))


_one_at_a_time = asyncio.Semaphore(1)
"""A photo may take hundreds of megabytes while it is read."""


async def _picture(make: Callable[[], bytes]) -> web.Response:
    """A JPEG; 404 if there is none, 422 with the reason if it cannot be read."""
    answer: dict[str, Any] = {"headers": _KEPT, "content_type": "image/jpeg"}
    async with _one_at_a_time:
        try:
            return web.Response(body=await asyncio.to_thread(make), **answer)
        except FileNotFoundError as error:
            return web.Response(status=404, text=str(error))
        except (ValueError, OSError) as error:
            return web.Response(status=422, text=str(error))
        except Exception as error:  # a reader of a damaged picture may raise anything
            log.warning("a small picture could not be made: %s", ascii(str(error)))
            return web.Response(status=422, text="this picture cannot be read")
