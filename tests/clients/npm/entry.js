// What the bundlers bundle: a page's script that uses the client.
import { connect } from "../../../clients/js/client.js";

globalThis.connect = connect;
