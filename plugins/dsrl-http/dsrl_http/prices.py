"""List prices of models, from the data of the package `genai-prices`; nothing is fetched."""

from __future__ import annotations

from functools import cache

from dsrl.types import Price

# Prices can rise with the length of a prompt, from some 100,000 tokens on. dsrl's prompts are far below that.
_TOKENS = 1000


@cache
def lookup(provider: str, model: str, batch: float = 1.0) -> Price | None:
    """Give the list price of a model for prompts below 100,000 tokens.

    Args:
        provider: the provider's name as `genai-prices` has it (``openai``, ``anthropic``, ``azure``), or the address of its
            API, beginning with ``http``.
        model: the provider's name of the model.
        batch: what a batch costs there as a share of the price.

    Returns:
        None where the price is not known.
    """

    from genai_prices import Usage, calc_price

    def dollars(**tokens: int) -> float:
        usage = Usage(**tokens)
        if provider.startswith("http"):
            total = calc_price(usage, model, provider_api_url=provider).total_price
        else:
            total = calc_price(usage, model, provider_id=provider).total_price
        return float(total) * 1e6 / _TOKENS

    try:
        prompt, completion = dollars(input_tokens=_TOKENS), dollars(output_tokens=_TOKENS)
        cached = dollars(input_tokens=_TOKENS, cache_read_tokens=_TOKENS)
        write = dollars(input_tokens=_TOKENS, cache_write_tokens=_TOKENS)
    except (LookupError, ValueError):
        return None
    if not prompt and not completion:
        # A model that is listed without a price is not free.
        return None
    return Price(prompt, completion, cached=cached, cache_write=write, batch=batch)
