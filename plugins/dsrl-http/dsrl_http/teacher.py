"""The base classes of plugins that call a provider over the network."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from dsrl import Completion, Price, Request, RowRefused, SettingsError, TeacherError, TransientError, hookimpl
from dsrl_http.batches import make_full_request, parse_rows
from dsrl_http.endpoint import Endpoint
from dsrl_http.errors import Failure, ProviderError, read_bill
from dsrl_http.failures import explain
from dsrl_http.prices import find_price
from dsrl_http.structured import StructuredOutput

if TYPE_CHECKING:
    from dsrl_http.connection import Answer, Connection

#: The price of a batch at the providers themselves, as a share of the normal price.
_BATCH_PRICE = 0.5


class HttpPlugin:
    """A plugin that calls one server.

    Args:
        endpoint: the server.
        timeout: seconds for one call.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint, self.timeout = endpoint, timeout
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The connection to the server. It is made on first use, and opened at its first request.

        Raises:
            TeacherError: the server needs a key, and there is none.
        """
        if self._connection is None:
            from dsrl_http.connection import Connection

            self._connection = Connection(self.endpoint, self.timeout)
        return self._connection

    @hookimpl
    async def aclose(self) -> None:
        """Close the connections. A later call opens new ones."""
        if self._connection is not None:
            await self._connection.aclose()


class HttpTeacher(HttpPlugin, ABC):
    """A teacher behind a provider's official SDK; see :class:`dsrl.plugins.specs.TeacherSpec`.

    A subclass says what differs between providers: the body of a request, how an answer and a row of a batch are read, what
    is learned from a refusal, and how batches are submitted, found and read.

    Args:
        endpoint, timeout: as for :class:`HttpPlugin`.
        structured: chooses the form of structured output.

    Attributes:
        name: the plugin's name.
        example_model: a model of the provider, for texts.
        answers_path: the path to which requests are posted.
        batches_path: the path of batches.
    """

    name: ClassVar[str]
    example_model: ClassVar[str]
    answers_path: ClassVar[str]
    batches_path: ClassVar[str]

    def __init__(self, endpoint: Endpoint, timeout: float, structured: StructuredOutput) -> None:
        super().__init__(endpoint, timeout)
        self.structured = structured

    # --- what differs -------------------------------------------------------------------------------------------------

    @abstractmethod
    def make_body(self, request: Request) -> dict[str, Any]:
        """Return the body of a request, with what was learned about its model so far."""

    @abstractmethod
    def read_answer(self, answer: Answer, request: Request) -> Completion:
        """Return the replies of an answer.

        Raises:
            RowRefused, TransientError: as ``TeacherSpec.complete``.
        """

    @abstractmethod
    def read_row(self, row: Mapping[str, Any]) -> Completion | None:
        """Return the replies in a row of a batch's results, or None if the request was not answered.

        Raises:
            ProviderError: the row is a refusal.
            RowRefused, TransientError: as ``TeacherSpec.complete``.
        """

    @abstractmethod
    def adapt(self, error: ProviderError, body: Mapping[str, Any], model: str) -> bool:
        """Learn from a refusal how a model must be asked; return whether the next body differs from this one."""

    # --- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def prepare(self, model: str) -> None:
        """Check that there are a model's name and a key."""
        if not model:
            raise SettingsError(self._describe_no_model())
        _ = self.connection

    @hookimpl
    def price(self, model: str) -> Price | None:
        """Return the list price, or None for a server of unknown price, which includes the user's own."""
        return find_price(self.endpoint.price_source, model, _BATCH_PRICE if self.endpoint.is_official else 1.0)

    @hookimpl
    async def complete(self, request: Request) -> Completion:
        """Send a request, again if the provider refuses a setting that it can do without."""
        model = request.model
        if not model:
            raise TeacherError(self._describe_no_model())
        while True:
            body = self.make_body(request)
            try:
                answer = await self.connection.post(self.answers_path, body, model)
            except ProviderError as error:
                if not self.adapt(error, body, model):
                    raise await explain(error, self.connection, model) from None
                usage, unknown = read_bill(error, self.endpoint.read_usage)
                if usage is not None or unknown:
                    # This call is paid for. The next one needs money of its own, so the ledger must make it.
                    raise TransientError(self._describe_refused_setting(error), usage=usage, unknown=unknown) from None
            else:
                return self.read_answer(answer, request)

    @hookimpl
    async def cancel_batch(self, batch: str) -> None:
        """Cancel a batch. Nothing happens if it is over already."""
        async with self.explain_errors(f"batch {batch}"):
            try:
                await self.connection.post_action(f"{self.get_batch_path(batch)}/cancel")
            except ProviderError as error:
                if error.status not in (400, 409):  # these two say that it is over already
                    raise

    # --- for the batches of subclasses --------------------------------------------------------------------------------

    def get_batch_path(self, batch: str) -> str:
        """Return the path of a batch."""
        return f"{self.batches_path}/{quote(batch, safe='')}"

    @asynccontextmanager
    async def explain_errors(self, thing: str = "", model: str = "") -> AsyncIterator[None]:
        """Turn the refusal of a call that is not for an answer into what hooks may raise.

        Args:
            thing: what the call is about, if the provider may not know it; for the text.
            model: the model that the call is about, if it is about one.
        """
        try:
            yield
        except ProviderError as error:
            if error.status in (400, 404) and thing:
                raise TeacherError(f"{self.endpoint.address} does not know {thing}: {error.message}") from None
            failure = await explain(error, self.connection, model)
            raise (TeacherError(str(failure)) if isinstance(failure, RowRefused) else failure) from None

    async def read_results(self, lines: Iterable[bytes], model: str) -> dict[int, Completion | Exception]:
        """Return for each request of a batch what its own call would have returned or raised.

        Args:
            lines: a JSON object on each line, in any order.
            model: of the requests.

        Raises:
            TransientError: not one line is readable.
        """
        results: dict[int, Completion | Exception] = {}
        refusals: dict[int, ProviderError] = {}
        for number, row in parse_rows(lines, self.endpoint.name):
            try:
                if (completion := self.read_row(row)) is not None:
                    results[number] = completion
            except ProviderError as error:
                refusals[number] = error
            except (RowRefused, TransientError, TeacherError) as failure:
                results[number] = failure
        # Only this batch counts: earlier calls may have had other settings, and thousands of rows would be dropped.
        was_answered = any(isinstance(result, Completion) for result in results.values())
        results.update(await self._explain_refusals(refusals, model, was_answered))
        return results

    async def _explain_refusals(
        self, refusals: Mapping[int, ProviderError], model: str, was_answered: bool
    ) -> dict[int, Exception]:
        body = self.make_body(make_full_request(model))
        failures: dict[str, Failure] = {}  # one for each text, because an explanation may take a call
        results: dict[int, Exception] = {}
        for number, error in refusals.items():
            text = f"{error.codes} {error}"
            if text not in failures and self.adapt(error, body, model):
                failures[text] = TransientError(self._describe_refused_setting(error))
            elif text not in failures:
                failures[text] = await explain(error, self.connection, model, was_answered)
            results[number] = failure = copy.copy(failures[text])
            failure.usage, failure.unknown = read_bill(error, self.endpoint.read_usage)
        return results

    def _describe_refused_setting(self, error: ProviderError) -> str:
        return f"{self.endpoint.name} does not support a setting: {error.message}"

    def _describe_no_model(self) -> str:
        return (
            f"the teacher {self.name!r} needs a model: write {self.name}:MODEL, e.g. {self.name}:{self.example_model}"
        )
