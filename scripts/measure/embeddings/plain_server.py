"""What one writes first: FastAPI around `SentenceTransformer.encode`, a call for each request.

    python -m measure.embeddings.plain_server FOLDER PORT [--threads]

A request at a time, or with --threads as many at once as the framework's threads allow.
"""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn
from fastapi import Body, FastAPI
from sentence_transformers import SentenceTransformer


def plain_app(model: SentenceTransformer, *, in_threads: bool) -> FastAPI:
    """OpenAI's embeddings, as floats."""
    app = FastAPI()

    def embed(body: dict[str, Any]) -> dict[str, Any]:
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        embeddings = model.encode(inputs, show_progress_bar=False).tolist()
        data = [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(embeddings)
        ]
        return {"object": "list", "model": body["model"], "data": data}

    if in_threads:

        @app.post("/v1/embeddings")
        def threaded(body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008
            return embed(body)

    else:

        @app.post("/v1/embeddings")
        async def sequential(body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008
            return embed(body)

    @app.get("/health")
    async def health() -> None:
        return None

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    parser.add_argument("--threads", action="store_true")
    options = parser.parse_args()
    app = plain_app(SentenceTransformer(options.folder), in_threads=options.threads)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")
