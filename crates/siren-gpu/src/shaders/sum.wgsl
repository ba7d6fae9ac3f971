// The gradients of all workgroups, summed in a fixed order.

// vec4f of a gradient, and gradients.
@group(0) @binding(0) var<uniform> counts: vec4u;
@group(0) @binding(1) var<storage, read> parts: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> sums: array<vec4f>;

const COLUMNS = 16u;
const ROWS = 16u;

var<workgroup> of_rows: array<vec4f, 256>;

@compute @workgroup_size(256)
fn sum(
    @builtin(workgroup_id) workgroup_id: vec3u,
    @builtin(local_invocation_index) id: u32,
) {
    let column = workgroup_id.x * COLUMNS + id % COLUMNS;
    var s = vec4f();
    if column < counts.x {
        for (var part = id / COLUMNS; part < counts.y; part += ROWS) {
            s += parts[part * counts.x + column];
        }
    }
    of_rows[id] = s;
    workgroupBarrier();
    if id < COLUMNS && column < counts.x {
        for (var row = 1u; row < ROWS; row++) {
            s += of_rows[row * COLUMNS + id];
        }
        sums[column] = s;
    }
}
