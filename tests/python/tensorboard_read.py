"""What the real TensorBoard sees below a folder, as JSON: {"files": {run: …}, "server": [run, …]}.

`files` is read by its event accumulator, `server` is the list of runs with scalars that
`tensorboard --logdir` itself serves.
"""

import json
import os
import sys
import time
import urllib.request

from tensorboard import program
from tensorboard.backend.event_processing import plugin_event_multiplexer

folder = sys.argv[1]
multiplexer = plugin_event_multiplexer.EventMultiplexer(
    tensor_size_guidance={"scalars": 0, "images": 0}
)
multiplexer.AddRunsFromDirectory(folder)
multiplexer.Reload()
files = {}
for run in multiplexer.Runs():
    scalars, images = {}, {}
    for plugin, found in (("scalars", scalars), ("images", images)):
        for tag in multiplexer.PluginRunToTagToContent(plugin).get(run, {}):
            events = multiplexer.Tensors(run, tag)
            if plugin == "scalars":
                found[tag] = [[event.step, event.tensor_proto.float_val[0]] for event in events]
            else:
                # Width, height, the PNG.
                found[tag] = [
                    [
                        event.step,
                        *map(bytes.decode, event.tensor_proto.string_val[:2]),
                        len(event.tensor_proto.string_val[2]),
                    ]
                    for event in events
                ]
    files[run] = {"scalars": scalars, "images": images}

board = program.TensorBoard()
board.configure(
    argv=[None, "--logdir", folder, "--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"]
)
url = board.launch()
served = {}
for _ in range(100):
    with urllib.request.urlopen(url + "data/plugin/scalars/tags", timeout=10) as answer:
        served = json.load(answer)
    if set(served) >= set(files):
        break
    time.sleep(0.2)
print(json.dumps({"files": files, "server": sorted(served)}), flush=True)
# The server's threads would go on.
os._exit(0)
