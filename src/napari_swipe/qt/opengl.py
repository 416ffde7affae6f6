"""Print whether a window with OpenGL opens here; as a program, for Qt ends a process that finds no screen."""

import ctypes
import json
import platform

GL_RENDERER = 0x1F01
LIBRARIES = {
    "Windows": "opengl32",
    "Darwin": "/System/Library/Frameworks/OpenGL.framework/OpenGL",
    "Linux": "libGL.so.1",
}


def describe_opengl() -> dict[str, object]:
    """Return Qt's platform, the version of OpenGL, and what renders; version (0, 0) where there is none."""
    from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext

    application = QGuiApplication.instance() or QGuiApplication([])
    surface, context = QOffscreenSurface(), QOpenGLContext()
    surface.create()
    there = context.create() and context.makeCurrent(surface)
    return {
        "platform": application.platformName(),
        "version": list(context.format().version()) if there else [0, 0],
        "renderer": _renderer() if there else "",
    }


def _renderer() -> str:
    try:
        read = ctypes.CDLL(LIBRARIES[platform.system()]).glGetString
    except (OSError, KeyError):
        return ""
    read.restype = ctypes.c_char_p
    return (read(GL_RENDERER) or b"").decode(errors="replace")


if __name__ == "__main__":
    print(json.dumps(describe_opengl()))
