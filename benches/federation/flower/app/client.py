"""A client's part: trains on 600 images of noise, or returns the weights as they came."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content["config"]
    arrays, images = message.content["arrays"], int(config["images"])
    if images:
        from app.network import trained

        part = int(context.node_config["partition-id"])
        arrays = ArrayRecord(trained(arrays.to_numpy_ndarrays(), config, part))
    metrics = MetricRecord({"num-examples": images or 600})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
