"""The in-process backend: a clear error without vLLM; with it, a tiny random model held to JSON."""

import importlib.util
import json
from pathlib import Path

import pytest

from stages.core.log import UserError
from stages.core.params import Llm
from stages.enrich.llm import load_backend
from stages.enrich.llm.ask import json_schema
from stages.enrich.llm.base import Conversation, Reply
from stages.enrich.llm.forms import ReviewKeywords

HAS_VLLM = importlib.util.find_spec("vllm") is not None


@pytest.mark.skipif(HAS_VLLM, reason="vllm is installed")
def test_missing_package_is_named_with_the_command_that_installs_it() -> None:
    backend = load_backend("vllm", Llm())
    with pytest.raises(UserError, match=r"pip install -c constraints\.txt -e '\.\[vllm\]'"):
        backend.answer([[{"role": "user", "content": "hello"}]], {}, lambda *_: None)


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama of random weights and a tokenizer of single bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not HAS_VLLM, reason="vllm is not installed")
def test_random_model_is_held_to_the_schema(tiny_llama: Path) -> None:
    settings = Llm(model=str(tiny_llama), max_tokens=800, batch_size=4)
    backend = load_backend("vllm", settings)
    prompts = [f"A mic for my son, number {n}" for n in range(6)] + ["too long " * 500]
    conversations: list[Conversation] = [[{"role": "user", "content": p}] for p in prompts]
    taken: dict[int, Reply] = {}
    backend.answer(conversations, json_schema(ReviewKeywords), taken.__setitem__)
    assert sorted(taken) == list(range(7))
    assert taken[6].text is None
    assert str(taken[6].problem).startswith("rejected: ")
    answered = [taken[n] for n in range(6) if taken[n].problem is None]
    assert answered
    for reply in answered:
        ReviewKeywords.model_validate(json.loads(str(reply.text)))


@pytest.mark.slow
@pytest.mark.skipif(not HAS_VLLM, reason="vllm is not installed")
def test_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    backend = load_backend("vllm", Llm(model=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="nowhere"):
        backend.answer([[{"role": "user", "content": "hello"}]], {}, lambda *_: None)
