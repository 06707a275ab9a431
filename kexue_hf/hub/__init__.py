"""From a trained folder to the Hub: checks, model cards, and the upload.

* checks: `folder_report` is what `kexue-hf doctor` prints. `saved_model` compares configuration, weights and
  vocabulary, `remote_code` the code, `card_fields` the card, `private_traces` what should stay at home, with
  `secret_patterns`; `folder_files` says which files go and which are left out.
* cards: `model_card` renders, from `folder_facts` and `model_facts`; `card_completion` completes, `card_names` puts
  OWNER/NAME into a card's code; `card_callback` writes a training's card. `matcher_sections` and `recovery_sections`
  hold what only these models' cards have. `front_matter` edits the YAML of a card, `markdown` finds its headings and
  its code.
* `upload`: one commit by huggingface_hub.
"""
