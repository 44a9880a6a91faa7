"""How much of a response's body is read; the one place for it, below everything that reads one.

Imported only where a provider is asked, since it needs the SDKs' HTTP library.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx2

#: What a header calls a body that is sent as it is.
_PLAIN = ("", "identity")


class BoundedBody(httpx2.AsyncByteStream):
    """The body of a response, unpacked, and no more of it than is allowed.

    Args:
        body: as the transport gives it.
        most: bytes that are read at most, counted before and after unpacking.
        too_long: makes the exception for a longer body, given ``most``; None: a longer body is cut there.

    Attributes:
        most, too_long: as above; may be changed until reading begins.
        was_cut: whether there was more than was given.
    """

    def __init__(
        self, body: httpx2.AsyncByteStream, most: int, too_long: Callable[[int], Exception] | None = None
    ) -> None:
        self.most, self.was_cut = most, False
        self.too_long = too_long
        self._body = body
        self._coding = ""

    @classmethod
    def of(
        cls, response: httpx2.Response, most: int, too_long: Callable[[int], Exception] | None = None
    ) -> BoundedBody:
        """Put a bound on a response whose body has not been read."""
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        bounded = cls(response.stream, most, too_long)
        coding = response.headers.get("content-encoding", "").strip().lower()
        if coding not in _PLAIN:
            # Unpacked here, so that what is counted is what takes the memory.
            bounded._coding = coding
            del response.headers["content-encoding"]
        response.stream = bounded
        return bounded

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._within(self._body.__aiter__())
        if self._coding:
            # The library unpacks in pieces of bounded size, however small the chunk that they come from.
            packed = httpx2.Response(200, headers={"Content-Encoding": self._coding}, stream=_Chunks(chunks))
            chunks = self._within(packed.aiter_bytes())
        async for chunk in chunks:
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()

    async def _within(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        left = self.most
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                self.was_cut = True
                if self.too_long is not None:
                    raise self.too_long(self.most)
                yield chunk[:left]
                return
            yield chunk


class _Chunks(httpx2.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks
