"""What an executed notebook keeps of its widgets: pictures, which need neither a kernel nor a script."""

from __future__ import annotations

from typing import Any


def keep_pictures(notebook: Any) -> None:
    """Make a saved notebook readable without a kernel: widgets give way to their pictures, their state is dropped.

    What a saved widget would show is an error in JupyterLab, and nothing on a web page. The explorer's picture is a
    PNG and HTML that holds the same: the PNG is enough.
    """
    view, state = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
    models = notebook.metadata.pop("widgets", {}).get(state, {}).get("state", {})
    for cell in notebook.cells:
        outputs = []
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            if 'class="s4x-still"' in "".join(shown.get("text/html", "")):
                del shown["text/html"]
            widget = shown.pop(view, None)
            if widget and not {"image/png", "text/html"} & shown.keys():
                outputs = [*_knob(models, widget.get("model_id", "")), *outputs]
            else:
                outputs.append(output)
        if "outputs" in cell:
            cell.outputs = outputs


def _knob(models: dict[str, Any], key: str) -> list[Any]:
    """A line with the values of a widget's controls, as an output; nothing for a widget without controls."""
    import nbformat

    values = []

    def visit(key: str) -> None:
        model = models.get(key, {}).get("state", {})
        if model.get("description") and "value" in model:
            values.append(f"{model['description']} = {model['value']}")
        elif model.get("description") and model.get("_options_labels"):
            values.append(f"{model['description']} = {model['_options_labels'][model.get('index') or 0]}")
        for child in model.get("children", []):
            visit(child.removeprefix("IPY_MODEL_"))

    visit(key)
    note = f"▸ at {', '.join(values)} (move it in a running notebook)\n"
    return [nbformat.v4.new_output("stream", name="stdout", text=note)] if values else []
