"""The peer of the collector benchmark: FastAPI and pydantic, with nothing else to do.

It decodes a batch, validates it, appends it to a file and answers after a sync that all
waiting requests share. It has no keys, limits, consent, contracts or transformations.
Runs in a separate environment: python collector_peer.py FOLDER PORT WORKERS
"""

import asyncio
import os
import sys
import threading
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

CAMEL = ConfigDict(alias_generator=to_camel)


class Event(BaseModel):
    model_config = CAMEL

    type: Literal["track", "identify", "page", "screen", "group", "alias"]
    message_id: str
    timestamp: datetime
    user_id: str | None = None
    anonymous_id: str | None = None
    event: str | None = None
    name: str | None = None
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    context: dict[str, Any] = {}
    integrations: dict[str, Any] = {}


class Batch(BaseModel):
    model_config = CAMEL

    batch: list[Event]
    sent_at: datetime
    write_key: str


class Log:
    """A file in which one sync serves every waiting line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._queue: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, daemon=True).start()

    async def append(self, line: bytes) -> None:
        future = self._loop.create_future()
        self._queue.put((line, future))
        await future

    def _run(self) -> None:
        while True:
            waiting = [self._queue.get()]
            try:
                while True:
                    waiting.append(self._queue.get_nowait())
            except Empty:
                pass
            os.write(self._file, b"\n".join([line for line, _ in waiting]) + b"\n")
            os.fdatasync(self._file)
            self._loop.call_soon_threadsafe(_settle, [future for _, future in waiting])


def _settle(waiting: "list[asyncio.Future[None]]") -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


@asynccontextmanager
async def _opened(app: FastAPI) -> Any:
    app.state.log = Log(Path(os.environ["PEER_FOLDER"]) / f"{os.getpid()}.ndjson")
    yield


app = FastAPI(lifespan=_opened)


@app.post("/v1/batch")  # type: ignore[untyped-decorator]
async def collect(batch: Batch) -> dict[str, bool]:
    await app.state.log.append(batch.model_dump_json(by_alias=True).encode())
    return {"success": True}


if __name__ == "__main__":
    folder, port, workers = sys.argv[1:]
    os.environ["PEER_FOLDER"] = folder
    uvicorn.run(
        "collector_peer:app",
        port=int(port),
        workers=int(workers),
        access_log=False,
        log_level="warning",
    )
