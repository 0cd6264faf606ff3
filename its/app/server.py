"""Serve the page with uvicorn."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from its.app.address import accepted_hosts
from its.app.guard import Guard
from its.app.studio import Studio
from its.media.decode import MOST_BYTES
from its.output import say

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds to wait at the end for the running job, which stops after its current step."""

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]

STYLE = {
    "body_background_fill": "#faf8f4",
    "button_large_text_weight": "500",
    "button_small_text_weight": "400",
    "button_border_width": "1px",
    "button_secondary_background_fill": "transparent",
    "button_secondary_background_fill_dark": "transparent",
    "button_secondary_background_fill_hover": "*neutral_100",
    "button_secondary_background_fill_hover_dark": "*neutral_800",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "*neutral_600",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "body_text_color_subdued": "*neutral_500",
}
"""Variables of Gradio's theme."""


def serve(studio: Studio, bound: socket.socket, *, host: str, password: str | None) -> None:
    """Serve the page until the process is interrupted.

    Args:
        studio: state of the server.
        bound: socket of the server.
        host: host of the socket.
        password: password of the page, or None.
    """
    with tempfile.TemporaryDirectory(prefix="its-app-") as uploads:
        application = build_application(
            studio, uploads=uploads, host=host, port=bound.getsockname()[1], password=password
        )
        import uvicorn

        config = uvicorn.Config(
            application, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
        )
        port, shown = bound.getsockname()[1], f"[{host}]" if ":" in host else host
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the folder is removed
        studio.start()
        say(f"its app: http://{shown}:{port}")
        logger.info(f"samples go to {studio.library.output}; Ctrl-C ends the page")
        try:
            uvicorn.Server(config).run(sockets=[bound])
        finally:
            studio.jobs.stop(patience=PATIENCE)


def build_application(studio: Studio, *, uploads: str, host: str, port: int, password: str | None) -> Guard:
    """Return the ASGI application: the page, its routes, and the guard around them.

    Args:
        studio: state of the server.
        uploads: folder for uploaded files.
        host, port: address of the server.
        password: password of the page, or None.
    """
    # Gradio reads these when it is imported, and when components are made.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads, "HF_HUB_DISABLE_TELEMETRY": "1"}
    import gradio as gr
    from fastapi import FastAPI

    from its.app.page import HEAD, build_page
    from its.app.routes import build_routes

    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    application.include_router(build_routes(studio.library, studio.scratch))
    theme = gr.themes.Base(primary_hue="orange", neutral_hue="stone", font=FONTS, font_mono=MONO).set(**STYLE)
    gr.mount_gradio_app(
        application,
        build_page(studio),
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme,
        head=HEAD,
    )
    return Guard(application, hosts=accepted_hosts(host, port), password=password, uploads=str(Path(uploads).resolve()))
