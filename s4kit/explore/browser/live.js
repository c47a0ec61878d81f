// New snapshots of a run that is being trained.

/** When another description of the runs comes, packs are asked for anew; who looks at the last snapshot follows. */
export function follow(app) {
  const heard = () => {
    const last = app.state.snapshot === app.first.steps.length - 1;
    app.meta = app.model.get("meta");
    app.store.forget();
    app.biases.clear();
    if (last) app.state.snapshot = app.first.steps.length - 1;
    app.show();
  };
  app.model.on("change:meta", heard);
  return () => app.model.off("change:meta", heard);
}
