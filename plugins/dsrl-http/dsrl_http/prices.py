"""List prices of models, from the data of the package `genai-prices`. Nothing is fetched."""

from __future__ import annotations

from functools import cache

from dsrl import Price

# A price can rise with the length of a prompt, from about 100,000 tokens on. dsrl's prompts are far shorter.
_TOKENS = 1000


@cache
def find_price(provider: str, model: str, batch: float = 1.0) -> Price | None:
    """Return the list price of a model for prompts below 100,000 tokens, or None if it is not known.

    Args:
        provider: the provider's name in `genai-prices` (``openai``, ``anthropic``, ``azure``), or the address of its API,
            which begins with ``http``.
        model: the provider's name of the model.
        batch: the price of a batch as a share of the normal price.
    """

    from genai_prices import Usage, calc_price

    def compute_dollars(**tokens: int) -> float:
        usage = Usage(**tokens)
        if provider.startswith("http"):
            total = calc_price(usage, model, provider_api_url=provider).total_price
        else:
            total = calc_price(usage, model, provider_id=provider).total_price
        return float(total) * 1e6 / _TOKENS

    try:
        prompt, completion = compute_dollars(input_tokens=_TOKENS), compute_dollars(output_tokens=_TOKENS)
        cached = compute_dollars(input_tokens=_TOKENS, cache_read_tokens=_TOKENS)
        write = compute_dollars(input_tokens=_TOKENS, cache_write_tokens=_TOKENS)
    except (LookupError, ValueError):
        return None
    if not prompt and not completion:
        # A model that is listed without a price is not free.
        return None
    return Price(prompt, completion, cached=cached, cache_write=write, batch=batch)
