// The shop's write key, and where the collector (`track`) and the `api` role listen.
window.shop = {
  key: "shop-key",
  host: `http://${location.hostname}:8080`,
  actions: `http://${location.hostname}:8081`,
};
