"""Which files a project names that its bundle does not bring.

For a project whose folder is all ours this is an error that `up` would meet later; an adopted project may find the file
on its host, so the caller chooses whether to ask. Not here: whether a path is allowed (`policy`).
"""

from collections.abc import Collection, Iterator

from towline.compose import layout, paths
from towline.compose.document import Document
from towline.compose.model import FileKind, FileUse, Project
from towline.compose.problems import Problem, Severity
from towline.compose.text import shown


def missing(project: Project, document: Document, folder: str, files: Collection[str]) -> tuple[Problem, ...]:
    """Find the files that are named and not there.

    Args: folder: what the project's paths were resolved against. files: the bundle's paths.
    Returns: an error for a file that Compose needs; a warning for a mount that looks like a file, as Docker would make
        an empty folder of that name.
    """
    return tuple(_missing(project, document, folder, files))


def _missing(project: Project, document: Document, folder: str, files: Collection[str]) -> Iterator[Problem]:
    for use in project.files:
        if not paths.is_within(use.path, folder):
            continue
        path = paths.relative(use.path, folder)
        if _is_there(path, files):
            continue
        if use.kind is FileKind.MOUNT:
            if "." in path.rpartition("/")[2].lstrip("."):
                message = f"{shown(path)} is not in the bundle, Docker will make an empty folder of that name"
                yield _problem(document, use, message, "add the file", Severity.WARNING)
        elif use.required:
            yield _problem(document, use, f"{shown(path)} is not in the bundle", "add it to the bundle", Severity.ERROR)


def _is_there(path: str, files: Collection[str]) -> bool:
    if path == ".":
        return bool(files)
    is_own = path in (layout.ENV_FILE, layout.COMPOSE_FILE) or path.partition("/")[0] == layout.OWN_FOLDER
    return is_own or path in files or any(each.startswith(f"{path}/") for each in files)


def _problem(document: Document, use: FileUse, message: str, fix: str, severity: Severity) -> Problem:
    return Problem(use.key_path, document.mark(use.key_path), message, fix, severity)
