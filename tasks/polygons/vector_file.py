"""Which file to open: the one that a folder or a zip file holds, and whether it is whole.

A shapefile cut short reads as records without geometry (GDAL 3.9.2), so its length is compared with its header's.
"""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tasks.errors import BadInput

_SUFFIXES = frozenset({".shp", ".gpkg", ".geojson", ".json", ".fgb", ".gml", ".kml", ".tab", ".mif", ".sqlite"})
_HEADER_BYTES = 100


def address_of(source: Path | str, layer: str | None) -> str:
    """Return what GDAL opens.

    Args:
        source: a file, a folder or zip file with one, or `zip://wetlands.zip!inner.shp`.
        layer: chooses among several files by their stems.

    Raises:
        BadInput: there is no such file on this machine, none or several vector files in it, or it is damaged.
    """
    text = str(source)
    outer, _, inner = text.removeprefix("zip://").rpartition("!") if text.startswith("zip://") else ("", "", "")
    path = Path(outer or text.removeprefix("zip://")).expanduser().absolute()
    if not path.exists():
        raise BadInput(f"There is no file {path}. Check the name; only files on this machine are read.")
    if path.is_file() and path.suffix.lower() == ".zip":
        return _zipped(path, inner, layer)
    if path.is_dir() and path.suffix.lower() != ".gdb":
        names = sorted(entry.name for entry in path.iterdir())
        found = [name for name in names if Path(name).suffix.lower() in {*_SUFFIXES, ".gdb"}]
        path /= _only(found, path, layer, lambda name: str(path / name))
    if path.suffix.lower() == ".shp":
        if not any(path.with_suffix(suffix).exists() for suffix in (".shx", ".SHX")):
            raise BadInput(f"{path} lacks its .shx file: a shapefile is several files. Copy all of them.")
        with path.open("rb") as file:
            _check_whole(file, path.stat().st_size, path)
    return str(path)


def _zipped(path: Path, inner: str, layer: str | None) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            found = sorted(
                {name for name in names if Path(name).suffix.lower() in _SUFFIXES and not _hidden(name)}
                | {name[: name.index(".gdb/") + 4] for name in names if ".gdb/" in name}
            )
            if inner and inner not in found:
                raise BadInput(f"{path} holds no vector file {inner}. It holds: {', '.join(found) or 'none'}.")
            member = inner or _only(found, path, layer, lambda name: f"zip://{path}!{name}")
            if member.lower().endswith(".shp"):
                with archive.open(member) as file:
                    _check_whole(file, archive.getinfo(member).file_size, path)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:  # Runtime: encrypted
        raise BadInput(f"{path} cannot be read as a zip file: {error}. Fetch or make it again.") from error
    # GDAL takes braces for the borders of a name, and without them the first ".zip" in it for its end
    plain = "{" in str(path) or "}" in str(path)
    return f"/vsizip/{path}/{member}" if plain else f"/vsizip/{{{path}}}/{member}"


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)


def _only(found: list[str], path: Path, layer: str | None, spelt: Callable[[str], str]) -> str:
    if layer and len(found) > 1:
        found = [name for name in found if Path(name).stem == layer] or found
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(
            f"{path} holds no vector file. Name a shapefile, GeoPackage, GeoJSON or FlatGeobuf, or a folder or "
            "zip file with one."
        )
    names = ", ".join(spelt(name) for name in found)
    raise BadInput(f"{path} holds {len(found)} vector files. Name one of them: {names}.")


def _check_whole(file: IO[bytes], size: int, path: Path) -> None:
    """Compare with the length in the header: 16-bit words at byte 24 (ESRI Shapefile Technical Description)."""
    header = file.read(_HEADER_BYTES)
    whole = 2 * int(struct.unpack(">i", header[24:28])[0]) if len(header) == _HEADER_BYTES else _HEADER_BYTES
    if size < whole:
        raise BadInput(
            f"The shapefile in {path} is cut short: {size:,} of {whole:,} bytes are there. Fetch or copy it again."
        )
