"""A saved graph becomes the prompt that the front end would post: settings below a choice."""

from support.workflow import ui_workflow_to_api

OPTIONS = [
    {"key": "A", "inputs": {"required": {"steps": ["INT", {"default": 3}], "photo": ["IMAGE"]}}},
    {
        "key": "B",
        "inputs": {
            "required": {"rate": ["FLOAT", {"default": 0.5}], "word": ["STRING", {}]},
            "optional": {"more": ["BOOLEAN", {"default": True}]},
        },
    },
]
INFO = {
    "Learn": {
        "input": {
            "required": {"method": ["COMFY_DYNAMICCOMBO_V3", {"options": OPTIONS}]},
            "optional": {"seed": ["INT", {"default": 9, "control_after_generate": True}]},
        }
    },
    "Load": {"input": {"required": {}}},
}


def prompt(values, **inputs):
    """Of a graph in which `inputs` names links of the node."""
    sockets = [{"name": name, "type": "IMAGE", "link": link} for name, link in inputs.items()]
    nodes = [
        {"id": 1, "type": "Load", "outputs": [{"type": "IMAGE"}]},
        {"id": 2, "type": "Learn", "inputs": sockets, "widgets_values": values},
    ]
    links = [[7, 1, 0, 2, 0, "IMAGE"]]
    return ui_workflow_to_api({"nodes": nodes, "links": links}, INFO)["2"]["inputs"]


def test_the_widgets_of_the_chosen_option_follow_the_choice():
    assert prompt(["A", 5, 1, "fixed"]) == {"method": "A", "method.steps": 5, "seed": 1}
    assert prompt(["B", 0.1, "sks", False, 1, "fixed"]) == {
        **{"method": "B", "method.rate": 0.1, "method.word": "sks", "method.more": False},
        "seed": 1,
    }


def test_a_socket_below_the_choice_is_linked():
    found = prompt(["A", 5, 1, "fixed"], **{"method.photo": 7})
    assert found["method.photo"] == ["1", 0]


def test_what_an_older_file_lacks_has_its_default():
    assert prompt(["B", 0.1]) == {
        **{"method": "B", "method.rate": 0.1, "method.word": "", "method.more": True},
        "seed": 9,
    }
    assert prompt([]) == {"method": "A", "method.steps": 3, "seed": 9}
