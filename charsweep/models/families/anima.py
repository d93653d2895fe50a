"""Anima (CircleStone Labs 2026): NVIDIA's Cosmos-Predict2 transformer, taught on drawings. Qwen 3
reads the prompt and T5's tokenizer numbers it; a small network, the text conditioner, makes of both
what the transformer is told.

Its pipeline is of diffusers' newer form, of modules. Each prompt is read by itself here, since the
longest of those beside it would move its last bits; so drawing begins behind the module that reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.models.conditioning import Conditioning
from charsweep.models.families import Drawing, Size, decoded
from charsweep.models.families.flow import PIXELS, STEPS, FlowTransformer, code_by_names
from charsweep.models.families.qwen_vae import AUTOENCODER, decode, posterior
from charsweep.models.families.qwen_vae import shapes as vae_shapes
from charsweep.models.families.shapes import Named, by_configs, linear, norm, qwen3
from charsweep.models.kohya import Naming, dotted
from charsweep.models.transformer_names import ANIMA, called

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from charsweep.core.specs import ImageSetSpec
    from charsweep.models.architectures import Shapes
    from charsweep.models.families import Family


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Anima(FlowTransformer):
    """Anima, by the folder that diffusers reads."""

    title: ClassVar[str] = "an Anima pipeline"
    pipeline: ClassVar[str] = "AnimaModularPipeline"
    marks: ClassVar[tuple[str, ...]] = ("llm_adapter.",)
    tags: ClassVar[tuple[str, ...]] = ("anima",)
    class_pictures: ClassVar[Drawing] = Drawing(30, 4.0)
    autoencoder: ClassVar[str] = AUTOENCODER
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_conditioner")
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer", "t5_tokenizer")

    # as sd-scripts teaches it
    density: Literal["uniform", "logit_normal"] = "logit_normal"
    shift: Annotated[float, Field(gt=0)] | None = 1.0

    def room(self, encoder: str, length: int) -> int:
        """T5's tokens have an end."""
        return min(length, self.most_tokens) - (encoder == "text_conditioner")

    def shapes(self, configs: Path) -> Shapes:
        return by_configs(
            configs,
            transformer=transformer,
            text_conditioner=text_conditioner,
            text_encoder=qwen3,
            vae=vae_shapes,
        )

    def code(self, prompt: str, drawing: Drawing, size: Size) -> Sequence[str]:
        steps, guidance = drawing
        own = f'num_inference_steps={steps}, output="images"'
        return (
            f"pipeline.update_components(guider=pipeline.guider.new(guidance_scale={guidance:g}))",
            *code_by_names(prompt, size, own, "[0]"),
        )

    def naming(self, configs: Path, prediction: str) -> Naming:
        return dotted(partial(called, ANIMA), "anima", "anima")

    def latents(self, pipeline: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return posterior(pipeline.vae, pixels)

    def embedded(self, pipeline: Any, prompt: str) -> Conditioning:
        """512 tokens of each, of which those behind its own are zeros that count too."""
        from diffusers.modular_pipelines.anima.encoders import AnimaTextEncoderStep

        read = AnimaTextEncoderStep.encode_prompt(
            pipeline, [prompt], prepare_unconditional_embeds=False,
            max_sequence_length=self.most_tokens, device=pipeline.text_encoder.device,
        )  # fmt: skip
        conditioner = pipeline.text_conditioner
        hidden = conditioner(
            source_hidden_states=read["qwen_prompt_embeds"].to(conditioner.dtype),
            target_input_ids=read["t5_input_ids"],
            target_attention_mask=read["t5_attention_mask"],
            source_attention_mask=read["qwen_attention_mask"],
        )
        return Conditioning(hidden)

    def words(self, pipeline: Any, conditioning: Conditioning) -> dict[str, Any]:
        return {"prompt_embeds": conditioning.hidden.to(pipeline.transformer.dtype)}

    def predict(
        self, pipeline: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning,
        sizes: Tensor,
    ) -> Tensor:  # fmt: skip
        """It is not told the sizes, but that no part of the picture is padding."""
        height, width = (PIXELS * side for side in noisy.shape[-2:])
        output = pipeline.transformer(
            hidden_states=noisy.unsqueeze(2), timestep=timesteps.to(noisy.dtype) / STEPS,
            encoder_hidden_states=conditioning.hidden,
            padding_mask=noisy.new_zeros(1, 1, height, width), return_dict=False,
        )  # fmt: skip
        predicted: Tensor = output[0].squeeze(2)
        return predicted

    def draw(
        self, pipeline: Any, spec: ImageSetSpec, prompts: Sequence[str],
        generators: Sequence[Generator],
    ) -> NDArray[np.float32]:  # fmt: skip
        """By the embeddings that training sees."""
        width, height = spec.pixels
        latents = behind_the_reader(pipeline, spec.guidance_scale)(
            num_inference_steps=spec.inference_steps, height=height, width=width,
            generator=list(generators), output="latents", **self.told(pipeline, spec, prompts),
        )  # fmt: skip
        return decoded(pipeline, latents.squeeze(2), spec.pixels, decode)


def behind_the_reader(pipeline: Any, guidance_scale: float) -> Any:
    """The pipeline's modules behind the one that reads prompts, with its own parts."""
    from diffusers.modular_pipelines import SequentialPipelineBlocks
    from diffusers.modular_pipelines.anima import before_denoise as before
    from diffusers.modular_pipelines.anima.denoise import AnimaDenoiseStep

    from charsweep.models.pipeline import quiet

    blocks = {
        "input": before.AnimaTextInputStep(),
        "prepare_latents": before.AnimaPrepareLatentsStep(),
        "set_timesteps": before.AnimaSetTimestepsStep(),
        "denoise": AnimaDenoiseStep(),
    }
    with quiet():
        made = SequentialPipelineBlocks.from_blocks_dict(blocks).init_pipeline()
        made.update_components(
            transformer=pipeline.transformer,
            scheduler=pipeline.scheduler,
            guider=pipeline.guider.new(guidance_scale=guidance_scale),
        )
    made.set_progress_bar_config(disable=True)
    return made


# -- tensors, by the parts' configs ----------------------------------------------------------------


def transformer(config: dict[str, Any]) -> Named:
    """Of a `CosmosTransformer3DModel` without learned positions."""
    head = config["attention_head_dim"]
    width, low = config["num_attention_heads"] * head, config["adaln_lora_dim"]
    told, wide = config["text_embed_dim"], int(width * config["mlp_ratio"])
    frames, *patch = config["patch_size"]
    pixels = frames * patch[0] * patch[1]
    inputs = config["in_channels"] + int(config["concat_padding_mask"])
    yield from linear("patch_embed.proj", inputs * pixels, width, bias=False)
    yield from linear("time_embed.t_embedder.linear_1", width, width, bias=False)
    yield from linear("time_embed.t_embedder.linear_2", width, 3 * width, bias=False)
    yield from norm("time_embed.norm", width, bias=False)
    for index in range(config["num_layers"]):
        block = f"transformer_blocks.{index}"
        for number in (1, 2, 3):
            yield from linear(f"{block}.norm{number}.linear_1", width, low, bias=False)
            yield from linear(f"{block}.norm{number}.linear_2", low, 3 * width, bias=False)
        for name, source in (("attn1", width), ("attn2", told)):
            for part, own in (("to_q", width), ("to_k", source), ("to_v", source),
                              ("to_out.0", width)):  # fmt: skip
                yield from linear(f"{block}.{name}.{part}", own, width, bias=False)
            for part in ("norm_q", "norm_k"):
                yield from norm(f"{block}.{name}.{part}", head, bias=False)
        yield from linear(f"{block}.ff.net.0.proj", width, wide, bias=False)
        yield from linear(f"{block}.ff.net.2", wide, width, bias=False)
    yield from linear("norm_out.linear_1", width, low, bias=False)
    yield from linear("norm_out.linear_2", low, 2 * width, bias=False)
    yield from linear("proj_out", width, pixels * config["out_channels"], bias=False)


def text_conditioner(config: dict[str, Any]) -> Named:
    """Of an `AnimaTextConditioner`."""
    source, width, told = config["source_dim"], config["model_dim"], config["target_dim"]
    head, wide = width // config["num_attention_heads"], int(width * config["mlp_ratio"])
    has_bias = config["use_layer_norm"]
    yield "embed.weight", [config["target_vocab_size"], told]
    if width != told:
        yield from linear("in_proj", told, width)
    attentions = [("self_attn", width)] if config["use_self_attention"] else []
    for index in range(config["num_layers"]):
        block = f"blocks.{index}"
        for name, context in (*attentions, ("cross_attn", source)):
            yield from norm(f"{block}.norm_{name}", width, bias=has_bias)
            for part, inputs in (("q_proj", width), ("k_proj", context), ("v_proj", context),
                                 ("o_proj", width)):  # fmt: skip
                yield from linear(f"{block}.{name}.{part}", inputs, width, bias=False)
            for part in ("q_norm", "k_norm"):
                yield from norm(f"{block}.{name}.{part}", head, bias=False)
        yield from norm(f"{block}.norm_mlp", width, bias=has_bias)
        yield from linear(f"{block}.mlp.0", width, wide)
        yield from linear(f"{block}.mlp.2", wide, width)
    yield from linear("out_proj", width, told)
    yield from norm("norm", told, bias=False)


if TYPE_CHECKING:
    _: type[Family] = Anima
