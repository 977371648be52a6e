"""A model card: what a model is, how it was measured, and what is unknown about it."""

import json
from pathlib import Path
from typing import Any

from raygen.document import dump
from raygen.image_shape import ImageShape
from raygen.metrics.protocol import protocol_hash
from raygen.untrusted import visible


def model_card(
    file: Path,
    content: dict[str, Any],
    facts: dict[str, Any],
    interface: dict[str, Any],
    audit: dict[str, Any] | None,
) -> str:
    """Markdown, after Mitchell et al. 2019, "Model Cards for Model Reporting".

    Text from the checkpoint is escaped: no markup, and no invisible characters.
    """
    data = content["data"]
    image = ImageShape.of(data["image"])
    pixels = ", ".join(map(str, image.chw))
    colours = "red, green, blue" if image.channels == 3 else "grey"
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(data["classes"]))
    labels = f"- `labels`: int64 (n,): {classes}\n" if facts["conditional"] else ""
    card = f"""# {file.name}

A {facts["architecture"]} ({facts["family"].upper()}) that generates {image} images, trained by
raygen on {data["name"]}.

## Use

- `latents`: float32 (n, {interface["latent_dim"]}), standard normal
{labels}- `images`: {interface["pixels"]}, (n, {pixels}), {colours}

The file was checked against its checkpoint: the largest pixel difference is
{interface["difference"]:.2g} (range 0 to 1).

## Training

- data: {data["name"]}, hash `{data["fingerprint"]}`, {data["train"]} training and {data["test"]}
  held-out images, {len(data["classes"])} classes
- {facts["kimg"]:g} thousand images seen, seed {content["seed"]}
- checkpoint `{facts["checkpoint"]}`, hash `{facts["checkpoint_hash"]}`

```yaml
{dump(content["trial"]).rstrip()}
```

## Measurements

{_metrics(content)}
One training seed. Values are comparable only with those of the same protocol.

## Copies of training images

{audit_text(audit)}

## Intended use and limits

Made for experiments, games, textures and teaching at {image.size}x{image.size}. Not for
identifying people, passing generated images off as photographs, or making decisions about people.
It knows only its training data, with that data's gaps and licence; rare classes are drawn worst. A
generated image can resemble a training image: see the tests above.
"""
    return visible(card).replace("<script", "&lt;script").replace("<img", "&lt;img")


def audit_text(audit: dict[str, Any] | None) -> str:
    """What an audit tested and what it did not, in sentences."""
    if audit is None:
        return "Not tested. To test it, run `raygen audit`."
    lines = []
    for name, tests in audit["tests"].items():
        near, authentic = tests["near_duplicates"], tests["authentic"]
        lines.append(
            f"- {name}: {near['rate']:.2%} of {audit['settings']['samples']} generated images lie "
            f"nearer to a training image than {near['expected']:.0%} of held-out images do; "
            f"{tests['nearer_to_train']['share']:.1%} are nearer to a training than to a held-out "
            f"image (50% by chance); {authentic['share']:.1%} are authentic (held-out images: "
            f"{authentic['held_out']:.1%}); C_T {tests['copying']['c_t']:.2f}, p "
            f"{tests['copying']['c_t_p']:.2g}"
        )
    member = audit.get("membership")
    if member:
        lines.append(
            f"- membership by the {member['by']}: AUC {member['auc']:.3f} "
            f"({member['low']:.3f} to {member['high']:.3f}; 0.5 by chance)"
        )
    else:
        lines.append("- membership: not tested")
    lines.append("- not tested: copies of parts of images, other attacks than these, other samples")
    return "\n".join(lines)


def _metrics(content: dict[str, Any]) -> str:
    rows = ["| metric | value | protocol |", "|---|---|---|"]
    for name, value in sorted(content["scores"].items()):
        record = content["protocols"].get(name)
        rows.append(f"| {name} | {value:.6g} | `{protocol_hash(record) if record else ''}` |")
    if len(rows) == 2:
        return "None: this checkpoint lies between two evaluations.\n"
    records = json.dumps(content["protocols"], indent=1, sort_keys=True)
    details = f"<details><summary>Protocols</summary>\n\n```json\n{records}\n```\n\n</details>"
    return "\n".join(rows) + f"\n\n{details}\n"
