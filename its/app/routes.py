"""Addresses of the page beside Gradio's: files of samples, galleries, played pictures, script and style."""

from __future__ import annotations

import threading

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response

from its.app.html import TEMPLATES
from its.app.library import Library
from its.app.scratch import Scratch
from its.errors import UserError
from its.report import page as report_page

KINDS = {".png": "image/png", ".wav": "audio/wav", ".mp4": "video/mp4", ".json": "application/json"}


def build_routes(library: Library, scratch: Scratch, *, metadata: bool = True) -> APIRouter:
    """Return the routes below `/its`.

    Args:
        library: runs whose files are served.
        scratch: played pictures.
        metadata: whether videos that are written on request include the metadata for `its rerun`.
    """
    routes, encoding = APIRouter(prefix="/its"), threading.Lock()

    def sample_file(run: str, name: str, file: str, download: bool = False) -> Response:
        from its.runs.stored_video import VIDEO, write_video_of

        path = library.file(run, name, file)
        if path is None and file == VIDEO:  # encoded on the first request
            try:
                with encoding:
                    write_video_of(library.sample(run, name), metadata=metadata)
            except UserError as error:
                raise HTTPException(404, str(error)) from None
            path = library.file(run, name, file)
        if path is None:
            raise HTTPException(404)
        shown = f"{name}{path.suffix}" if download else None
        return FileResponse(path, media_type=KINDS.get(path.suffix, "application/octet-stream"), filename=shown)

    def gallery(run: str) -> Response:
        from its.report.gallery import gallery_html
        from its.runs.reader import read_run

        try:
            read = read_run(library.run(run))
        except UserError as error:
            raise HTTPException(404, str(error)) from None
        return HTMLResponse(gallery_html([read], read.folder))

    def played_file(token: str, file: str) -> Response:
        content = scratch.get(token, file)
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type=KINDS[f".{file.rpartition('.')[2]}"])

    def script() -> Response:
        text = report_page.template_text("player.js") + (TEMPLATES / "page.js").read_text(encoding="utf-8")
        return Response(text, media_type="text/javascript")

    def style() -> Response:
        text = report_page.template_text("player.css") + (TEMPLATES / "page.css").read_text(encoding="utf-8")
        return Response(text, media_type="text/css")

    routes.add_api_route("/runs/{run}/samples/{name}/{file}", sample_file)
    routes.add_api_route("/runs/{run}/", gallery)
    routes.add_api_route("/made/{token}/{file}", played_file)
    routes.add_api_route("/page.js", script)
    routes.add_api_route("/page.css", style)
    return routes
