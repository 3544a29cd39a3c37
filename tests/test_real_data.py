"""Every stage, through the command line, on real chest films that came in as a hospital's table."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from arra_med.cli.main import main
from tests.training.ranks import run

CONFIG = """
paths: {{output: {output}}}
device: cpu
ingest:
  dataset:
    name: table
    file: {data}/metadata.csv
    image: file
    text: text
    view: view
    patient: patientid
    label_column: findings
    label_values: [COVID-19, No Finding]
    split_shares: [0.6, 0.2, 0.2]
  size: 64
  part_size: 64
tokenizer:
  plugin: {{name: monai-vqvae, channels: [8, 16, 32], residual_layers: 1, num_codes: 64,
           code_dimension: 16}}
  training: {{steps: 40, batch_size: 8}}
features:
  teacher: {{name: linear, weights: "{{output}}/teacher", epochs: 5}}
backbone:
  llama: {{hidden_size: 32, num_layers: 2, num_heads: 2, intermediate_size: 64,
          text_vocabulary: 400}}
  long_prompts: truncate
training: {{max_steps: 10, batch_size: 8, micro_batch_size: 8, precision: fp32, log_every: 5,
           warmup_steps: 2, learning_rate: 1e-3}}
generation: {{guidance: 2, top_k: 16}}
evaluation:
  judges: [{{name: cnn, weights: "{{output}}/judge", epochs: 2, min_positives: 2}}]
  extractors: [{{name: cnn, weights: "{{output}}/judge", epochs: 2, min_positives: 2}}]
  bootstrap: 50
  min_positives: 2
"""
VERBS = ("ingest", "train-tokenizer", "tokenize", "features", "train", "generate", "evaluate")


@pytest.mark.real_data
@pytest.mark.slow
def test_real_films_go_through_every_stage(
    tmp_path: Path, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(output=tmp_path / "out", data=real_data / "cxr_open"))
    for verb in VERBS:
        if verb == "train":  # sets up torch.distributed, which is to end with its process
            run(tmp_path / "train.log", verb, config)
        else:
            assert main([verb, str(config)]) == 0
    outputs = capsys.readouterr().out.split()

    prepared = tmp_path / "out" / "prepared"
    excluded = [json.loads(line) for line in (prepared / "excluded.jsonl").read_text().splitlines()]
    samples = pq.read_table(prepared / "samples.parquet")
    assert samples.num_rows + len(excluded) == 176
    assert all(row["reason"] and row["detail"] for row in excluded)
    assert set(samples["view"].to_pylist()) == {"PA", "AP", "lateral"}

    report = Path(outputs[-1])
    assert report.name == "report.html"
    results = json.loads((report.parent / "results.json").read_text())
    assert results["cohort"]["generated"] == results["cohort"]["prompts"] > 10
    assert "Research use only" in report.read_text()
