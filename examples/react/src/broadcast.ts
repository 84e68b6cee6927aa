import { useEffect, useState, useSyncExternalStore } from "react";
import { connect, type Item } from "websocket-broadcast-client";

// One connection for the whole page: components come and go, and StrictMode mounts each twice.
export const client = connect(import.meta.env.VITE_SERVER ?? "ws://localhost:8080/ws");

const onChange = (changed: () => void) => client.onState(changed);

/** The state of the connection: "connecting", "open", "waiting" or "closed". */
export function useConnection() {
  return useSyncExternalStore(onChange, () => client.state);
}

/** The items of a topic since the component was mounted, after the newest ten events before it. */
export function useTopic(topic: string) {
  const [items, setItems] = useState<Item[]>([]);
  useEffect(() => {
    const add = (item: Item) => setItems((items) => [...items, item].slice(-100));
    const subscription = client.subscribe(topic, add, { lastN: 10 });
    return () => {
      subscription.close();
      setItems([]);
    };
  }, [topic]);
  return items;
}
