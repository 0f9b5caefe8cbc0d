"""The server's part: Flower's own FedAvg, with the time of each round."""

import json
import time

from app.network import initial
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class Timed(FedAvg):
    """Notes when each round begins, and when its mean is there."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.begun, self.ended = [], []

    def configure_train(self, *arguments, **settings):
        self.begun.append(time.time())
        return super().configure_train(*arguments, **settings)

    def aggregate_train(self, *arguments, **settings):
        result = super().aggregate_train(*arguments, **settings)
        self.ended.append(time.time())
        return result


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    clients = int(config["clients"])
    strategy = Timed(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=clients,
        min_evaluate_nodes=0,
        min_available_nodes=clients,
    )
    wanted = {key: config[key] for key in ("images", "epochs", "batch-size", "lr")}
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(initial()),
        num_rounds=int(config["rounds"]),
        train_config=ConfigRecord(wanted),
    )
    answered = [dict(metrics) for _, metrics in sorted(result.train_metrics_clientapp.items())]
    with open(str(config["report"]), "w") as file:
        json.dump({"begun": strategy.begun, "ended": strategy.ended, "metrics": answered}, file)
