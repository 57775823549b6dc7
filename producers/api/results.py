"""An output as data sets: its rows, its error rows, its spans."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from headrace.output.job_record import require_job
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.storage.uri import normalise_uri
from producers.api.job import Job
from producers.api.options import settings_of
from producers.records.manifest import parts_of
from schemas.errors import JobNotFound
from schemas.names import output_layout

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow.dataset


class Output:
    """The results of a job that ended, or of one that is running, as far as it has come.

    Nothing is read before it is asked for. Rows are in the order of the input.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    @property
    def uri(self) -> str:
        """The address of the output."""
        return self._store.uri

    @property
    def job(self) -> Job:
        """The job that writes here.

        Raises:
            JobNotFound: the output holds no job.
        """
        return Job(require_job(self._store), self._store, self._settings)

    def to_arrow(self) -> pyarrow.dataset.Dataset:
        """The rows as a lazy data set: `.to_table()`, `.to_batches()`, `.filter(…)`, `.head(n)`.

        Raises:
            JobNotFound: there is no part yet, so the columns are not known.
        """
        names = [output_layout.part(chunk) for chunk in sorted(parts_of(self._store))]
        return self._dataset(names, "no part is committed yet, or the input has no rows")

    def to_polars(self) -> polars.LazyFrame:
        """The rows as a lazy frame of polars; `.collect()` reads them.

        Raises:
            MissingExtra: polars is not installed. JobNotFound: see `to_arrow`.
        """
        scan: polars.LazyFrame = _needed("polars").scan_pyarrow_dataset(self.to_arrow())
        return scan

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a frame of pandas, read whole into memory.

        Raises:
            MissingExtra: pandas is not installed. JobNotFound: see `to_arrow`.
        """
        _needed("pandas")
        frame: pandas.DataFrame = self.to_arrow().to_table().to_pandas()
        return frame

    def errors(self) -> pyarrow.dataset.Dataset:
        """The error rows alone, as a lazy data set.

        Raises:
            JobNotFound: see `to_arrow`.
        """
        import pyarrow.compute as pc

        return self.to_arrow().filter(pc.field("status") == "error")

    def traces(self) -> pyarrow.dataset.Dataset:
        """The spans of every attempt as a lazy data set, one row per span.

        Raises:
            JobNotFound: there are no spans (the setting `traces` was off).
        """
        names = [info.name for info in self._store.list(output_layout.TRACES)]
        return self._dataset(names, "there are no spans")

    def _dataset(self, names: list[str], why_none: str) -> pyarrow.dataset.Dataset:
        import pyarrow.dataset as ds

        from producers.api.store_files import files_of

        if not names:
            raise JobNotFound(f"{self._store.uri}: {why_none}")
        return ds.dataset(names, format="parquet", filesystem=files_of(self._store))

    def __repr__(self) -> str:
        return f"headrace.open({self._store.uri!r})"


def open_output(output: str | os.PathLike[str], **options: Any) -> Output:
    """The results in an output, and the job that writes them.

    `options` are those of the store, such as `s3_endpoint_url`. Nothing is read yet.

    Raises:
        ConfigError: the address or an option has no meaning.
        UriNotAllowed: the output is outside the allowed prefixes.
    """
    settings = settings_of(options)
    return Output(open_store(normalise_uri(os.fspath(output)), settings), settings)


def _needed(package: str) -> Any:
    import importlib

    from schemas.errors import MissingExtra

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(f"this needs {package}: pip install {package}") from error
