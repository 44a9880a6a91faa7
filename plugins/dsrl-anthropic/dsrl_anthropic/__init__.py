"""The teacher ``anthropic``: Claude models through Anthropic's Messages API."""

from dsrl_anthropic.teacher import AnthropicTeacher

__all__ = ["AnthropicTeacher"]
