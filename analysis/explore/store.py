"""The results folder: a file for each finished chunk, a manifest, and in the end one Parquet file of all points.

manifest.json            which space, which chunks are finished
graphs/000000.graph      traced steps, one for each network and training options
chunks/000000.parquet    finished chunks; all of them together can be read as one data set at any time
points.parquet           all points, with `on_front`; the chunks are gone once it is there
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from simulator.errors import TrainwattError
from simulator.files import write_atomic

FORMAT, VERSION = "trainwatt-explore", 1

_GROUP_ROWS = 131_072
"""Rows of a row group of points.parquet, about: whole chunks are put together until there are as many."""


@dataclass(frozen=True)
class Store:
    """The results of a space with fingerprint `digest` and so many `chunks` in `folder`."""

    folder: Path
    digest: str
    chunks: int

    @property
    def points(self) -> Path:
        """The file of all points, once every chunk is finished."""
        return self.folder / "points.parquet"

    def graph(self, number: int) -> Path:
        """The file of a traced step."""
        return self.folder / "graphs" / f"{number:06}.graph"

    def chunk(self, number: int) -> Path:
        """The file of a chunk; it is there, whole, as soon as the chunk is finished."""
        return self.folder / "chunks" / f"{number:06}.parquet"

    def open(self, *, fresh: bool = False) -> None:
        """Make the folder ready, and empty it of an earlier exploration where `fresh`.

        Raises `TrainwattError` where it holds another space, or cannot be written.
        """
        manifest = self.folder / "manifest.json"
        if fresh:
            self._clear()
        found = self._manifest()
        if found is not None and found.get("digest") != self.digest:
            raise TrainwattError(
                f"{self.folder} holds another space (or files it names have changed); "
                "give another folder, or --fresh to begin again"
            )
        if found is None and self.folder.is_dir() and any(self.folder.iterdir()):
            raise TrainwattError(f"{self.folder} holds something else; give a new folder")
        try:
            for folder in (self.folder, self.folder / "graphs", self.folder / "chunks"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainwattError(f"cannot make {self.folder} ({error.strerror}); give a folder you can write") from None
        if not manifest.exists():
            self.record()

    def finished(self) -> set[int]:
        """Return the chunks that are finished."""
        if self.points.exists():
            return set(range(self.chunks))
        names = (path.stem for path in (self.folder / "chunks").glob("[0-9]*.parquet"))
        return {int(name) for name in names if int(name) < self.chunks}

    def record(self) -> None:
        """Write the manifest: what the folder holds and which chunks are finished."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "digest": self.digest,
            "chunks": self.chunks,
            "finished": sorted(self.finished()),
            "points": self.points.name if self.points.exists() else None,
        }
        write_atomic(self.folder / "manifest.json", json.dumps(document) + "\n")

    def write_chunk(self, number: int, table: pa.Table) -> None:
        """Store a finished chunk, whole or not at all."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="lz4", write_statistics=False, use_dictionary=_texts(table.schema))
        write_atomic(self.chunk(number), sink.getvalue().to_pybytes())

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read the points in order, a bounded number at a time; `columns` of them, all by default."""
        if self.points.exists():
            file = pq.ParquetFile(self.points)
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns, use_threads=False)
            return
        for number in sorted(self.finished()):
            yield pq.ParquetFile(self.chunk(number)).read(columns=columns, use_threads=False)

    def finish(self, marks: Any) -> None:
        """Write points.parquet from all chunks (or itself) with the column `on_front`, `marks` in order of points."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".points.")
        os.close(handle)
        try:
            schema = self._marked_schema()
            with pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=_texts(schema)) as writer:
                for table in self._marked(marks):
                    writer.write_table(table)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, self.points)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        shutil.rmtree(self.folder / "chunks", ignore_errors=True)
        self.record()

    def write_csv(self) -> Path:
        """Write all points as CSV beside the Parquet file, and return where."""
        from pyarrow import csv

        path = self.folder / "points.csv"
        temporary = self.folder / ".points.csv"
        file = pq.ParquetFile(self.points)
        with csv.CSVWriter(str(temporary), pa.schema([(f.name, _plain(f.type)) for f in file.schema_arrow])) as writer:
            for table in self.tables():
                writer.write_table(table.cast(pa.schema([(f.name, _plain(f.type)) for f in table.schema])))
        os.replace(temporary, path)
        return path

    def _marked_schema(self) -> pa.Schema:
        schema = next(self.tables()).schema
        names = [name for name in schema.names if name != "on_front"]
        return pa.schema([schema.field(name) for name in names] + [pa.field("on_front", pa.bool_())])

    def _marked(self, marks: Any) -> Iterator[pa.Table]:
        """Yield the points with their marks, put together to row groups of many rows."""
        held: list[pa.Table] = []
        at = 0
        for table in self.tables():
            names = [name for name in table.schema.names if name != "on_front"]
            held.append(table.select(names).append_column("on_front", pa.array(marks[at : at + len(table)])))
            at += len(table)
            if sum(map(len, held)) >= _GROUP_ROWS:
                yield pa.concat_tables(held)
                held = []
        if held:
            yield pa.concat_tables(held)

    def _manifest(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("version") != VERSION:
            raise TrainwattError(f"{self.folder}/manifest.json is none of ours; give a new folder")
        return found

    def _clear(self) -> None:
        """Remove what an earlier exploration has left; nothing of anybody else's."""
        if self._manifest() is None:
            return
        for name in ("graphs", "chunks"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("points.parquet", "points.csv", "manifest.json"):
            (self.folder / name).unlink(missing_ok=True)


def _texts(schema: pa.Schema) -> list[str]:
    """Return the columns of texts: few distinct ones, so codes and a dictionary. Numbers are nearly all distinct."""
    return [field.name for field in schema if pa.types.is_dictionary(field.type)]


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
