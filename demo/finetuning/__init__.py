"""What fine-tuning brings in the demo's world: trains `demo-vit` on its videos, and writes tables of docs/demo.md.

    python -m vidclip.demo.finetuning [FOLDER] [--list] [--only NAME ...] [--split test] [--output docs/demo.md]

Each run is `vidclip finetune` with other settings; its model folder, features and hits stay in FOLDER, so that what is
done is not done again, and a training that was ended goes on. Runs in two languages train the text towers of
`two_languages` first, where FOLDER has none. Settings were chosen with `--split validation`.
"""
