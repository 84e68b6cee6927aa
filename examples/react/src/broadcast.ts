import { useEffect, useState, useSyncExternalStore } from "react";
import { connect, type Client, type Item } from "websocket-broadcast-client";

let client: Client | undefined;

/**
 * The one client of the page: components come and go, and StrictMode mounts each twice. It is made by the first
 * effect or event that needs it, so not while React renders on a server.
 */
export function broadcast() {
  return (client ??= connect(import.meta.env.VITE_SERVER ?? "ws://localhost:8080/ws"));
}

// In development: without this, a change of this module would leave the client of its old version connected.
import.meta.hot?.accept(() => location.reload());

const onChange = (changed: () => void) => broadcast().onState(changed);

/** The state of the connection: "connecting", "open", "waiting" or "closed". */
export function useConnection() {
  return useSyncExternalStore(onChange, () => broadcast().state, () => "connecting");
}

/** The items of a topic since the component was mounted, after the newest ten events before it. */
export function useTopic(topic: string) {
  const [items, setItems] = useState<Item[]>([]);
  useEffect(() => {
    const add = (item: Item) => setItems((items) => [...items, item].slice(-100));
    const subscription = broadcast().subscribe(topic, add, { lastN: 10 });
    return () => {
      subscription.close();
      setItems([]);
    };
  }, [topic]);
  return items;
}
