"""How many bytes of a response's body are read. Everything that reads a body goes through this module.

Import it only where a provider is called, because it needs the HTTP library of the SDKs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx2

#: Maximum bytes of an answer, decompressed: 128 replies of the longest that models write.
MOST_ANSWER_BYTES = 32 * 2**20
#: Maximum bytes of any other body: a list, an object, an error. Of a longer error, the beginning is read.
MOST_OTHER_BYTES = 4 * 2**20
#: Maximum bytes of the results of a batch: each of 10,000 requests may have a hundred kilobytes.
MOST_RESULT_BYTES = 2**30

#: What a header calls a body that is not compressed.
_PLAIN = ("", "identity")


class BoundedBody(httpx2.AsyncByteStream):
    """A response's body, decompressed and limited to a number of bytes.

    Args:
        body: the stream of the transport.
        most: maximum number of bytes to read. It holds before and after decompression.
        make_error: makes the exception for a longer body from ``most``. If None, a longer body is cut at the limit.

    Attributes:
        most, make_error: as above; both may be changed until reading begins.
        was_cut: whether the body was longer than the limit.
    """

    def __init__(
        self, body: httpx2.AsyncByteStream, most: int, make_error: Callable[[int], Exception] | None = None
    ) -> None:
        self.most, self.was_cut = most, False
        self.make_error = make_error
        self._body = body
        self._coding = ""

    @classmethod
    def limit_response(
        cls, response: httpx2.Response, most: int, make_error: Callable[[int], Exception] | None = None
    ) -> BoundedBody:
        """Replace the body of a response, which has not been read yet, by a bounded one, and return that."""
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        bounded = cls(response.stream, most, make_error)
        coding = response.headers.get("content-encoding", "").strip().lower()
        if coding not in _PLAIN:
            # We decompress here, so that the limit counts the bytes that take the memory.
            bounded._coding = coding
            del response.headers["content-encoding"]
        response.stream = bounded
        return bounded

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._limit(self._body.__aiter__())
        if self._coding:
            # The library decompresses in pieces of bounded size, however small the compressed chunk is.
            packed = httpx2.Response(200, headers={"Content-Encoding": self._coding}, stream=_Chunks(chunks))
            chunks = self._limit(packed.aiter_bytes())
        async for chunk in chunks:
            yield chunk

    async def aclose(self) -> None:
        """Close the stream of the transport."""
        await self._body.aclose()

    async def _limit(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        room = self.most
        async for chunk in chunks:
            room -= len(chunk)
            if room < 0:
                self.was_cut = True
                if self.make_error is not None:
                    raise self.make_error(self.most)
                yield chunk[:room]
                return
            yield chunk


class _Chunks(httpx2.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


def format_megabytes(size: int) -> str:
    """Return a number of bytes as text, in whole megabytes."""
    return f"{size // 2**20} MB"
