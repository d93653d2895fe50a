"""Python in a model card that draws each column of a picture by itself, as the sweep did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from charsweep.actions.export.chosen import Chosen

CODE = '''\
columns = [  # from left to right: what each is told{and_adapter}
{columns}
]


def put_on(place):
    {put_on}


told = []
for place, column in enumerate(columns):
    put_on(place)
    told.append(pipeline.encode_prompt(
        prompt=column[0], device=pipeline.device, num_images_per_prompt=1,
        do_classifier_free_guidance={is_guided}, negative_prompt={negative},
    ))
names = ("prompt_embeds", "negative_prompt_embeds",
         "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
words = {{name: torch.cat(each, dim=1) for name, each in zip(names, zip(*told))
          if each[0] is not None}}
predict = pipeline.unet.forward


def by_columns(noisy, timestep, encoder_hidden_states, added_cond_kwargs=None, **named):
    """Predict a square around each column, with its words, and keep that column of it."""
    count, (height, width), kept = len(columns), noisy.shape[2:], []
    seen = min(width, max(-(-width // count), height))
    for place in range(count):
        put_on(place)
        first, last = (-(-edge * width // count) for edge in (place, place + 1))
        start = min(max((first + last - seen) // 2, 0), width - seen)
        added = added_cond_kwargs and dict(added_cond_kwargs)
        if added:  # of an XL
            added["text_embeds"] = added["text_embeds"].chunk(count, dim=1)[place]
            added["time_ids"] = added["time_ids"].clone()
            added["time_ids"][:, (1, 5)] = seen * float(pipeline.vae_scale_factor)
        answer = predict(noisy[..., start:start + seen], timestep,
                         encoder_hidden_states.chunk(count, dim=1)[place],
                         added_cond_kwargs=added, **named)[0]
        kept.append(answer[..., first - start:last - start])
    return (torch.cat(kept, dim=-1),)


pipeline.unet.forward = by_columns
image = pipeline(**words, num_inference_steps={steps}, guidance_scale={guidance:g},
                 height={height}, width={width}).images[0]'''


def is_by_columns(chosen: Chosen) -> bool:
    """Whether the first picture of the card is drawn by columns."""
    return len(chosen.shown.columns[0]) > 1


def code_by_columns(chosen: Chosen, adapters: Mapping[int, tuple[str, float]]) -> str:
    """Lines that draw it, with `pipeline` and `torch`; the last assigns `image`.

    Of adapters that draw apart, by their place: what each is loaded as, and its strength.
    """
    images = chosen.shown
    lines = [_column(one.words, adapters.get(one.drawer)) for one in images.columns[0]]
    width, height = images.pixels
    return CODE.format(
        columns="\n".join(lines),
        and_adapter=", which adapter draws it, at which strength" if adapters else "",
        put_on="pipeline.set_adapters(*columns[place][1:])" if adapters else "pass",
        is_guided=images.guidance_scale > 1,
        negative=repr(images.negative_prompt),
        steps=images.inference_steps,
        guidance=images.guidance_scale,
        height=height,
        width=width,
    )


def _column(words: str, adapter: Sequence[object] | None) -> str:
    told = ", ".join(map(repr, (words, *(adapter or ()))))
    return f"    ({told}{'' if adapter else ','}),"
