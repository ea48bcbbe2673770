"""The forms that a language model fills in.

A form is the JSON schema that the model is held to and the check of its answer in one. Its schema
is part of the key of every stored answer: change a field here and everything is asked again.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

Phrases = Annotated[list[Annotated[str, StringConstraints(max_length=40)]], Field(max_length=5)]


class ReviewKeywords(BaseModel):
    """The form that a language model fills in for one review."""

    model_config = ConfigDict(extra="forbid")

    who: Phrases
    when: Phrases
    why: Phrases


def summary_form(max_chars: int) -> type[BaseModel]:
    """Return the form of an answer: `summary`, up to twice `max_chars`.

    Models count characters badly; what is over `max_chars` is cut to its leading sentences.
    """
    return create_model(
        "DescriptionSummary",
        __config__=ConfigDict(extra="forbid"),
        summary=(str, Field(min_length=1, max_length=2 * max_chars)),
    )


def json_schema(form: type[BaseModel]) -> dict[str, Any]:
    """Return the form's schema without its docstring, whose wording must not decide a key."""
    schema = form.model_json_schema()
    schema.pop("description", None)
    return schema
